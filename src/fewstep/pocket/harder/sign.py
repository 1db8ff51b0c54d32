"""Signs: a lettered board before a wall. Each letter fills its own part of the latent grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fewstep.pocket.harder.brush import Field, LitCanvas, tint
from fewstep.pocket.harder.scenes import Scene
from fewstep.pocket.harder.walls import draw_wall, metal, plaster, wood

BOARD = {
    "red": tint("c43a34"),
    "blue": tint("3560bc"),
    "green": tint("38845a"),
    "white": tint("eeeae0"),
    "yellow": tint("efc445"),
    "black": tint("3e3e46"),
}
INK = {
    "white": tint("fbf9f2"),
    "black": tint("1e1c20"),
    "yellow": tint("ffd84a"),
    "red": tint("c02420"),
}
TILE = 16
CELL = {"large": 16, "small": 8}  # px across that a letter has; a tile, or half of one
GLYPH = {"large": (13, 14), "small": (7, 12)}  # px that its picture fills of them
HEIGHT = {"high": -16, "low": 0}
WIDEN, MIN_WIDTH = 1.15, 4  # glyphs are drawn a little wide, and never narrower than so many px
STROKE = 5  # of the font's own pixels at 64, so that letters are bold


def draw_sign(canvas: LitCanvas, it: Scene) -> None:
    draw_wall(canvas, it["wall"])
    x, y = middle(it)
    half = max(22.0, len(it.word) * CELL[it["size"]] / 2 + 9)
    outline = SHAPES[it["shape"]](canvas, x, y, half)
    canvas.shade(outline + 2.0, 5, 0.35)
    canvas.paint(canvas.box(x - 3, y + 10, x + 3, canvas.height + 9), tint("6e5038"), canvas.pillar(x, 3.5))
    colour = np.asarray(BOARD[it["board"]], np.float32)
    canvas.paint(outline, colour * 0.62, grain(canvas, it["material"]))
    canvas.paint(outline + 3, colour, grain(canvas, it["material"]) * canvas.falloff(0.18))
    for glyph, (left, _) in zip(it.word, letter_corners(it), strict=True):
        draw_glyph(canvas, glyph, it, left, y)


def letter_corners(it: Scene) -> list[tuple[int, int]]:
    """Left and top of each letter's part of the picture, `CELL` px wide and a tile high. The first letter begins where
    a tile does, or half of one."""
    (wide, high), cell = it.size, CELL[it["size"]]
    start = int((wide - cell * len(it.word)) / 2 // cell) * cell
    top = int((high / 2 - 8 + HEIGHT[it["pose"]]) / TILE) * TILE
    return [(start + cell * k, top) for k in range(len(it.word))]


def middle(it: Scene) -> tuple[float, float]:
    """The middle of the word."""
    left, top = letter_corners(it)[0]
    return left + CELL[it["size"]] * len(it.word) / 2, top + TILE / 2


def grain(canvas: LitCanvas, material: str) -> Field:
    if material == "wood":
        return wood(canvas, canvas.y, canvas.x)
    return metal(canvas) if material == "metal" else plaster(canvas)


def board(canvas: LitCanvas, x: float, y: float, half: float) -> Field:
    return canvas.box(x - half, y - 16, x + half, y + 16, 3)


def oval(canvas: LitCanvas, x: float, y: float, half: float) -> Field:
    return canvas.ellipse(x, y, half * 1.18, 22)


def arrow(canvas: LitCanvas, x: float, y: float, half: float) -> Field:
    body = canvas.box(x - half, y - 15, x + half, y + 15, 2)
    return np.minimum(body, canvas.convex((x + half - 1, y - 20), (x + half + 15, y), (x + half - 1, y + 20)))


def shield(canvas: LitCanvas, x: float, y: float, half: float) -> Field:
    return np.maximum(canvas.box(x - half, y - 19, x + half, y + 30, 4), canvas.ellipse(x, y - 18, 1.3 * half, 44))


SHAPES = {"board": board, "oval": oval, "arrow": arrow, "shield": shield}


def draw_glyph(canvas: LitCanvas, glyph: str, it: Scene, left: float, y: float) -> None:
    wide, high = GLYPH[it["size"]]
    mask = glyph_mask(glyph, wide, high)
    x0, y0 = int(left + (CELL[it["size"]] - wide) / 2), int(y - high / 2)
    part = canvas.pixels[y0 : y0 + high, x0 : x0 + wide]
    seen = mask[: part.shape[0], : part.shape[1], None]
    part += seen * (np.asarray(INK[it["ink"]], np.float32) - part)


@lru_cache(maxsize=256)
def glyph_mask(glyph: str, width: int, height: int) -> Field:
    """(height, width) in 0..1. Wide glyphs are squeezed into it; narrow ones (I) keep their shape, in the middle."""
    font = ImageFont.load_default(64)
    box = font.getbbox(glyph, stroke_width=STROKE)
    image = Image.new("L", (int(box[2] - box[0]), int(box[3] - box[1])))
    ImageDraw.Draw(image).text((-box[0], -box[1]), glyph, 255, font, stroke_width=STROKE)
    fitted = max(MIN_WIDTH, min(width, round(WIDEN * image.width * height / image.height)))
    shrunk = image.resize((fitted, height), Image.Resampling.BOX)
    whole = Image.new("L", (width, height))
    whole.paste(shrunk, ((width - fitted) // 2, 0))
    return np.asarray(whole, np.float32) / 255
