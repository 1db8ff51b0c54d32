"""Pictures of scenes: PIL at four times the size, softened, 64 x 64.

The pictures are soft on purpose: no line is thinner than two pixels, so a 16-px latent tile holds little beyond the
attributes. Letters are exactly on the tile grid (row 16..32; columns 1, 2, 3), one tile per letter, never jittered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from fewstep.pocket.world import (
    Landscape,
    Portrait,
    Scene,
    Sign,
)

SIZE = 64
SCALE = 4  # supersampling
SOFTNESS = 0.75  # px, sigma of the blur

Colour = tuple[int, int, int]
SKY: dict[str, tuple[Colour, Colour]] = {
    "day": ((78, 150, 240), (190, 226, 250)),
    "dawn": ((190, 110, 190), (250, 196, 214)),
    "sunset": ((226, 92, 44), (255, 196, 96)),
    "night": ((10, 12, 44), (44, 50, 112)),
}
GROUND: dict[str, tuple[Colour, Colour]] = {
    "grass": ((92, 184, 80), (54, 122, 52)),
    "sand": ((244, 214, 134), (196, 152, 86)),
    "snow": ((250, 250, 254), (196, 202, 216)),
    "sea": ((30, 150, 176), (10, 76, 126)),
}
MOUNTAIN: dict[str, Colour] = {"purple": (106, 70, 150), "grey": (116, 120, 130)}
PAINT: dict[str, Colour] = {
    "red": (216, 40, 40),
    "blue": (44, 84, 216),
    "green": (36, 144, 68),
    "yellow": (250, 212, 44),
    "white": (246, 246, 246),
    "black": (24, 24, 30),
    "orange": (240, 140, 30),
    "pink": (246, 140, 190),
}
WALL: dict[str, Colour] = {
    "blue": (84, 128, 246),
    "teal": (56, 196, 204),
    "green": (92, 190, 104),
    "pink": (250, 150, 196),
    "orange": (252, 164, 56),
    "purple": (150, 84, 204),
}
SKIN: dict[str, Colour] = {"pale": (252, 218, 194), "tan": (218, 164, 118), "brown": (122, 76, 48)}
HAIR: dict[str, Colour] = {
    "black": (28, 26, 32),
    "blond": (240, 204, 92),
    "red": (190, 66, 24),
    "white": (234, 234, 240),
    "blue": (40, 70, 200),
}
PLACE = {"left": 14, "middle": 32, "right": 50}


def colour_gradient(top: Colour, bottom: Colour, width: int, height: int, across: bool = False) -> Image.Image:
    steps = np.linspace(0.0, 1.0, width if across else height)[:, None]
    line = ((1 - steps) * np.array(top) + steps * np.array(bottom)).astype(np.uint8)
    rows = np.broadcast_to(line[None] if across else line[:, None], (height, width, 3))
    return Image.fromarray(np.ascontiguousarray(rows))


class SceneCanvas:
    """A large picture addressed in final pixels."""

    def __init__(self, image: Image.Image):
        self.image = image
        self.pen = ImageDraw.Draw(image)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0) -> None:
        self.pen.rounded_rectangle(scaled(x0, y0, x1, y1), radius * SCALE, fill)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self.pen.ellipse(scaled(x0, y0, x1, y1), fill)

    def polygon(self, points: list[tuple[float, float]], fill: Colour) -> None:
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill)

    def soften(self) -> Image.Image:
        return self.image.reduce(SCALE).filter(ImageFilter.GaussianBlur(SOFTNESS))


def scaled(*numbers: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (n * SCALE for n in numbers)
    return x0, y0, x1 - 1, y1 - 1


def render(scene: Scene) -> Image.Image:
    """The scene's one exact picture, RGB, 64 x 64."""
    if isinstance(scene, Landscape):
        return draw_landscape(scene)
    return draw_portrait(scene) if isinstance(scene, Portrait) else draw_sign(scene)


def wall(name: str, light: int) -> SceneCanvas:
    bright = WALL[name]
    dim = cast(Colour, tuple(int(0.72 * c) for c in bright))
    ends = (bright, dim) if light == 0 else (dim, bright)
    return SceneCanvas(colour_gradient(*ends, SIZE * SCALE, SIZE * SCALE, across=True))


HORIZON = 40
PEAKS = (
    [(-2, 40), (13, 21), (26, 34), (42, 17), (66, 40)],
    [(-2, 40), (22, 17), (38, 33), (51, 21), (66, 40)],
)


def draw_landscape(scene: Landscape) -> Image.Image:
    big = SIZE * SCALE
    canvas = SceneCanvas(colour_gradient(*SKY[scene.sky], big, big))
    sky = colour_gradient(*SKY[scene.sky], big, HORIZON * SCALE)
    canvas.image.paste(sky, (0, 0))
    sun_x = (13, 51)[scene.light]
    if scene.body == "sun":
        canvas.oval(sun_x - 6.5, 3, sun_x + 6.5, 16, (255, 226, 70))
    if scene.body == "moon":
        crescent(canvas, sun_x)
    if scene.mountains != "none":
        canvas.polygon(cast(list[tuple[float, float]], PEAKS[scene.pose]), MOUNTAIN[scene.mountains])
    canvas.image.paste(colour_gradient(*GROUND[scene.ground], big, big - HORIZON * SCALE), (0, HORIZON * SCALE))
    if scene.thing != "none":
        {"house": house, "tree": tree, "boat": boat}[scene.thing](canvas, PLACE[scene.place], PAINT[scene.colour])
    return canvas.soften()


def crescent(canvas: SceneCanvas, x: float) -> None:
    """A moon: a disc minus a shifted disc."""
    disc, bite = Image.new("L", canvas.image.size), Image.new("L", canvas.image.size)
    ImageDraw.Draw(disc).ellipse(scaled(x - 7, 2.5, x + 7, 16.5), 255)
    ImageDraw.Draw(bite).ellipse(scaled(x - 2, 0.5, x + 10, 12.5), 255)
    canvas.image.paste((250, 250, 255), (0, 0), ImageChops.subtract(disc, bite))


def house(canvas: SceneCanvas, x: float, paint: Colour) -> None:
    canvas.box(x - 8, 44, x + 8, 58, (248, 240, 220))
    canvas.box(x - 2.5, 50, x + 2.5, 58, (96, 60, 40))
    canvas.polygon([(x - 12, 45), (x, 32), (x + 12, 45)], paint)


def tree(canvas: SceneCanvas, x: float, paint: Colour) -> None:
    canvas.box(x - 2, 46, x + 2, 59, (96, 60, 40))
    canvas.oval(x - 10, 28, x + 10, 49, paint)


def boat(canvas: SceneCanvas, x: float, paint: Colour) -> None:
    canvas.polygon([(x - 12, 50), (x + 12, 50), (x + 8, 58), (x - 8, 58)], (110, 66, 40))
    canvas.polygon([(x - 1, 27), (x - 1, 48), (x - 11, 48)], paint)
    canvas.polygon([(x + 1, 30), (x + 1, 48), (x + 10, 48)], paint)


def draw_portrait(scene: Portrait) -> Image.Image:
    canvas, x = wall(scene.wall, scene.light), 32 + (-3, 3)[scene.pose]
    skin, hair = SKIN[scene.skin], HAIR[scene.hair]
    if scene.length == "long":
        canvas.box(x - 19, 7, x + 19, 56, hair, radius=15)
    if scene.length == "curly":
        canvas.oval(x - 23, 1, x + 23, 41, hair)
    canvas.box(x - 25, 50, x + 25, 80, PAINT[scene.shirt], radius=12)
    canvas.box(x - 5, 42, x + 5, 54, cast(Colour, tuple(int(0.85 * c) for c in skin)), radius=3)
    canvas.oval(x - 14, 7, x + 14, 38, hair)
    canvas.oval(x - 13, 14, x + 13, 48, skin)
    fringe = 21 if scene.length == "short" else 19
    canvas.pen.chord(scaled(x - 14, 7, x + 14, 2 * fringe - 7 + 10), 200, 340, hair)
    eyes(canvas, x, scene.glasses == "yes")
    mouth(canvas, x, scene.mood)
    return canvas.soften()


def eyes(canvas: SceneCanvas, x: float, glasses: bool) -> None:
    for side in (-6.5, 6.5):
        if glasses:
            canvas.box(x + side - 6, 23.5, x + side + 6, 34.5, (20, 20, 26), radius=4)
            canvas.box(x + side - 3.8, 25.7, x + side + 3.8, 32.3, (190, 240, 255), radius=2.5)
        else:
            canvas.oval(x + side - 3.4, 26, x + side + 3.4, 32, (252, 252, 252))
        canvas.oval(x + side - 1.9, 27, x + side + 1.9, 31.2, (26, 22, 30))


def mouth(canvas: SceneCanvas, x: float, mood: str) -> None:
    dark: Colour = (120, 14, 26)
    if mood == "smiling":
        canvas.pen.chord(scaled(x - 8, 31, x + 8, 44.5), 20, 160, (250, 250, 250))
        canvas.pen.arc(scaled(x - 8.5, 30, x + 8.5, 45), 10, 170, (200, 30, 40), 2 * SCALE)
    elif mood == "frowning":
        canvas.pen.arc(scaled(x - 7, 37.5, x + 7, 52), 200, 340, dark, int(2.6 * SCALE))
    else:
        canvas.oval(x - 4, 35.5, x + 4, 45.5, dark)


COLUMNS = {1: ((21.0, 13.0, 22.0, 22.0),), 2: ((17.5, 17.0, 13.0, 14.0), (33.5, 17.0, 13.0, 14.0))}
COLUMNS[3] = (*COLUMNS[2], (49.5, 17.0, 13.0, 14.0))  # (x, y, width, height) of each letter, px


def draw_sign(scene: Sign) -> Image.Image:
    canvas, paint = wall(scene.wall, scene.light), PAINT[scene.board]
    post = 40 if scene.shape == "arrow" else 32
    canvas.box(post - 2.5, 30, post + 2.5, 70, (90, 62, 44))
    if scene.shape == "board":
        canvas.box(9, 8, 55, 40, paint, radius=3)
    elif scene.shape == "oval":
        canvas.oval(5, 5, 59, 43, paint)
    else:
        canvas.polygon([(1, 24), (17, 7), (80, 7), (80, 41), (17, 41)], paint)
    for glyph, cell in zip(scene.letters, COLUMNS[len(scene.letters)], strict=True):
        x, y, width, height = (int(n * SCALE) for n in cell)
        mask = glyph_mask(glyph, width, height)
        canvas.image.paste(PAINT[scene.ink], (x, y), mask)
    return canvas.soften()


@lru_cache(maxsize=256)
def glyph_mask(glyph: str, width: int, height: int) -> Image.Image:
    """A bold capital stretched to fill its cell, so that all letters are equally wide."""
    font = ImageFont.load_default(160)
    box = font.getbbox(glyph, stroke_width=7)
    image = Image.new("L", (int(box[2] - box[0]), int(box[3] - box[1])))
    ImageDraw.Draw(image).text((-box[0], -box[1]), glyph, 255, font, stroke_width=7)
    return image.resize((width, height), Image.Resampling.BOX)
