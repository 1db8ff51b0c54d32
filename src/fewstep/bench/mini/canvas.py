"""A large picture addressed in final pixels, which records where its parts are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

SIDE = 512  # px of every source
SCALE = 2  # supersampling

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in final pixels
Paint = str | tuple[int, int, int]


@dataclass(frozen=True)
class Drawing:
    """A source. parts: the places of the things that an edit may name, shadows included."""

    picture: Image.Image
    parts: dict[str, Box]


def rgb(paint: Paint) -> tuple[int, int, int]:
    red, green, blue = (ImageColor.getrgb(paint) if isinstance(paint, str) else paint)[:3]
    return red, green, blue


def darker(paint: Paint, share: float = 0.8) -> tuple[int, int, int]:
    red, green, blue = (int(min(255, share * level)) for level in rgb(paint))
    return red, green, blue


def mix_colours(paint: Paint, other: Paint, share: float) -> tuple[int, int, int]:
    """share of `other`, and 1 - share of `paint`."""
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(rgb(paint), rgb(other), strict=True))
    return red, green, blue


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface that Pillow carries: the same on every machine."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return found


class Canvas:
    """Begins with a gradient from top to bottom over the whole picture."""

    def __init__(self, top: Paint, bottom: Paint):
        self.image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE))
        self.parts: dict[str, Box] = {}
        self.gradient((0, 0, SIDE, SIDE), top, bottom)

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def part(self, name: str, box: Box) -> None:
        """Adds the box to the place of `name`."""
        old = self.parts.get(name, box)
        self.parts[name] = min(old[0], box[0]), min(old[1], box[1]), max(old[2], box[2]), max(old[3], box[3])

    # ---- shapes

    def gradient(self, box: Box, top: Paint, bottom: Paint) -> None:
        x0, y0, x1, y1 = (int(v) for v in _big(box))
        steps = np.linspace(0.0, 1.0, y1 - y0)[:, None]
        column = ((1 - steps) * np.array(rgb(top)) + steps * np.array(rgb(bottom))).round().astype(np.uint8)
        area = np.broadcast_to(column[:, None], (y1 - y0, x1 - x0, 3))
        self.image.paste(Image.fromarray(np.ascontiguousarray(area)), (x0, y0))

    def box(self, box: Box, fill: Paint, radius: float = 0) -> None:
        x0, y0, x1, y1 = _big(box)
        self.pen.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius * SCALE, rgb(fill))

    def oval(self, box: Box, fill: Paint) -> None:
        x0, y0, x1, y1 = _big(box)
        self.pen.ellipse((x0, y0, x1 - 1, y1 - 1), rgb(fill))

    def disc(self, x: float, y: float, radius: float, fill: Paint) -> None:
        self.oval((x - radius, y - radius, x + radius, y + radius), fill)

    def polygon(self, points: Sequence[tuple[float, float]], fill: Paint) -> None:
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in points], rgb(fill))

    def line(self, points: Sequence[tuple[float, float]], fill: Paint, width: float) -> None:
        self.pen.line([(x * SCALE, y * SCALE) for x, y in points], rgb(fill), round(width * SCALE), joint="curve")

    def arc(self, box: Box, start: float, end: float, fill: Paint, width: float) -> None:
        """Degrees clockwise from three o'clock."""
        self.pen.arc(_big(box), start, end, rgb(fill), round(width * SCALE))

    def chord(self, box: Box, start: float, end: float, fill: Paint) -> None:
        self.pen.chord(_big(box), start, end, rgb(fill))

    def shadow(self, box: Box, strength: float = 0.35, blur: float = 8) -> None:
        """A soft dark oval."""
        self._soft(box, "black", strength, blur)

    def glow(self, x: float, y: float, radius: float, paint: Paint, strength: float = 0.6) -> None:
        """Light that falls off to nothing at `radius`."""
        inner = radius * 0.55
        self._soft((x - inner, y - inner, x + inner, y + inner), paint, strength, radius * 0.3)

    def _soft(self, box: Box, paint: Paint, strength: float, blur: float) -> None:
        """An oval whose edge fades; drawn on as much of the picture as it reaches."""
        x0, y0, x1, y1 = _big(box)
        reach = 3 * blur * SCALE
        left, top = int(x0 - reach), int(y0 - reach)
        mask = Image.new("L", (int(x1 + reach) - left, int(y1 + reach) - top))
        ImageDraw.Draw(mask).ellipse((x0 - left, y0 - top, x1 - left, y1 - top), round(255 * strength))
        self.image.paste(rgb(paint), (left, top), mask.filter(ImageFilter.GaussianBlur(blur * SCALE)))

    def text(self, words: str, x: float, y: float, height: float, fill: Paint, weight: float = 0) -> Box:
        """One line centred on (x, y); height of the typeface in px. Returns its box."""
        face, stroke = font(round(height * SCALE)), round(weight * SCALE)
        at = (x * SCALE, y * SCALE)
        self.pen.text(at, words, rgb(fill), face, anchor="mm", stroke_width=stroke, stroke_fill=rgb(fill))
        x0, y0, x1, y1 = (v / SCALE for v in self.pen.textbbox(at, words, face, anchor="mm", stroke_width=stroke))
        return x0, y0, x1, y1

    def text_width(self, words: str, height: float) -> float:
        """In px."""
        return font(round(height * SCALE)).getlength(words) / SCALE

    def done(self) -> Drawing:
        return Drawing(self.image.reduce(SCALE), dict(self.parts))


def _big(box: Box) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (value * SCALE for value in box)
    return x0, y0, x1, y1


def mask_of(boxes: list[Box], margin: float = 10) -> Image.Image:
    """White where an edit may change something: the boxes, enlarged a little."""
    mask = Image.new("L", (SIDE, SIDE))
    for x0, y0, x1, y1 in boxes:
        wider = (max(0, x0 - margin), max(0, y0 - margin), min(SIDE, x1 + margin) - 1, min(SIDE, y1 + margin) - 1)
        ImageDraw.Draw(mask).rectangle(wider, 255)
    return mask
