"""The one exact picture of a scene."""

from __future__ import annotations

from PIL import Image

from fewstep.pocket.harder.brush import LitCanvas
from fewstep.pocket.harder.landscape import draw_landscape
from fewstep.pocket.harder.portrait import draw_portrait
from fewstep.pocket.harder.scenes import Scene
from fewstep.pocket.harder.sign import draw_sign
from fewstep.pocket.harder.still_life import draw_still_life

DRAW = {"landscape": draw_landscape, "portrait": draw_portrait, "text": draw_sign, "still-life": draw_still_life}


def render(it: Scene) -> Image.Image:
    """RGB, of the scene's size."""
    canvas = LitCanvas(*it.size, side=-1 if it["light"] == "left" else 1)
    DRAW[it.category](canvas, it)
    return canvas.picture()
