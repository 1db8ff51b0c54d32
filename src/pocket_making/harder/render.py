"""The one exact picture of a scene."""

from __future__ import annotations

from PIL import Image

from pocket_making.harder.brush import Canvas
from pocket_making.harder.landscape import draw_landscape
from pocket_making.harder.portrait import draw_portrait
from pocket_making.harder.scenes import Scene
from pocket_making.harder.sign import draw_sign
from pocket_making.harder.still_life import draw_still_life

DRAW = {"landscape": draw_landscape, "portrait": draw_portrait, "text": draw_sign, "still-life": draw_still_life}


def render(it: Scene) -> Image.Image:
    """RGB, of the scene's size."""
    canvas = Canvas(*it.size, side=-1 if it["light"] == "left" else 1)
    DRAW[it.category](canvas, it)
    return canvas.picture()
