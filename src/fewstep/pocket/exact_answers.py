"""How close a picture is to the exact answer. A caption leaves light and pose free, so a prompt has a few exact
answers. A good picture is close to one of them; a blend of two is close to none."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewstep.pocket.measure import pixels_of, psnr_8bit
from fewstep.pocket.render import render
from fewstep.pocket.world import Scene

RGBArray = NDArray[np.uint8]


@lru_cache(maxsize=4096)
def exact_answers(scene: Scene) -> tuple[RGBArray, ...]:
    """The different exact pictures of the caption, by light and pose."""
    found: dict[bytes, RGBArray] = {}
    for light in (0, 1):
        for pose in (0, 1):
            pixels = pixels_of([render(replace(scene, light=light, pose=pose))])[0]
            found.setdefault(pixels.tobytes(), pixels)
    return tuple(found.values())


def nearest_answer(picture: Image.Image, scene: Scene) -> tuple[float, int]:
    """dB to the nearest exact answer, and the index of that answer."""
    pixels = pixels_of([picture])[0]
    distances = [psnr_8bit(pixels, answer) for answer in exact_answers(scene)]
    best = int(np.argmax(distances))
    return distances[best], best
