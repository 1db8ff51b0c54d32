"""Surfaces with words on them. Every line is a part of its own, called line1, line2, and so on."""

from collections.abc import Sequence

from fewstep.bench.mini.canvas import SIDE, Canvas, Drawing, Paint, darker, mix_colours
from fewstep.bench.mini.scenes import SKY, clouds


def shop(lines: Sequence[str], paint: Paint = "#2f5d50", ink: Paint = "#f6e7c1") -> Drawing:
    """A shop front with its name on a board over the window."""
    c = Canvas("#c9a98a", "#b8926f")
    for y in range(0, 512, 24):
        c.line([(0, y), (SIDE, y)], "#b39273", 2)
    c.box((36, 60, 476, 190), darker(paint, 0.7), 8)
    c.box((44, 68, 468, 182), paint, 6)
    _lines(c, lines, (60, 74, 452, 176), ink)
    c.box((60, 214, 330, 430), "#4a3a2e", 4)
    c.gradient((72, 226, 318, 418), "#9cc4cf", "#e3f0ee")
    c.box((350, 214, 452, 452), darker(paint, 0.85), 4)
    c.box((366, 232, 436, 340), "#b9d7dc", 3)
    c.disc(364, 372, 6, "#d9b25f")
    c.gradient((0, 452, SIDE, SIDE), "#9d978c", "#86807a")
    return c.done()


def poster(lines: Sequence[str], paint: Paint = "#20304f", ink: Paint = "#f4d35e") -> Drawing:
    """A concert poster on a wall."""
    c = Canvas("#d8d3ca", "#c4bdb1")
    c.shadow((86, 40, 436, 490), 0.35, 10)
    c.box((92, 28, 420, 484), paint)
    c.disc(256, 330, 96, mix_colours(paint, ink, 0.55))
    c.disc(256, 330, 70, paint)
    c.polygon([(240, 286), (262, 282), (262, 364), (240, 368)], ink)
    c.oval((212, 350, 262, 384), ink)
    _lines(c, lines, (108, 46, 404, 220), ink)
    return c.done()


def street_sign(lines: Sequence[str], paint: Paint = "#1f5fa8", ink: Paint = "#ffffff") -> Drawing:
    """A sign on a pole before the sky."""
    c = Canvas(*SKY["day"])
    clouds(c, [(100, 110), (400, 70)])
    c.box((246, 200, 266, 512), "#8a8f94")
    c.box((48, 156, 464, 296), "#f4f6f7", 14)
    c.box((56, 164, 456, 288), paint, 10)
    _lines(c, lines, (70, 172, 442, 280), ink)
    return c.done()


def book(lines: Sequence[str], paint: Paint = "#7a2f3a", ink: Paint = "#f1e3c6") -> Drawing:
    """A book that lies on a table, seen from above."""
    c = Canvas("#a97f56", "#8f6742")
    for y in (70, 180, 300, 420):
        c.line([(0, y), (SIDE, y + 6)], "#946c46", 3)
    c.shadow((100, 60, 440, 490), 0.45, 10)
    c.box((112, 40, 412, 476), darker(paint, 0.75), 6)
    c.box((118, 40, 412, 470), paint, 6)
    c.box((136, 58, 394, 452), mix_colours(paint, ink, 0.18), 3)
    c.polygon([(265, 300), (310, 372), (265, 420), (220, 372)], ink)
    c.polygon([(265, 322), (294, 372), (265, 402), (236, 372)], paint)
    _lines(c, lines, (146, 76, 384, 270), ink)
    return c.done()


def chalkboard(lines: Sequence[str], paint: Paint = "#2b3a36", ink: Paint = "#f5f4ee") -> Drawing:
    """A menu board in a wooden frame."""
    c = Canvas("#e6dccb", "#d3c5ae")
    c.shadow((60, 50, 460, 490), 0.35, 10)
    c.box((60, 36, 452, 476), "#9c6b3f", 8)
    c.box((78, 54, 434, 458), paint, 3)
    _lines(c, lines, (92, 66, 420, 446), ink)
    return c.done()


def jar(lines: Sequence[str], paint: Paint = "#fbf3dd", ink: Paint = "#6b2f2a") -> Drawing:
    """A jar of jam with a paper label."""
    c = Canvas("#dfe6e3", "#c3cfcb")
    c.gradient((0, 400, SIDE, SIDE), "#c9a06e", "#a97e4e")
    c.shadow((140, 430, 390, 470), 0.45)
    c.box((152, 118, 360, 448), "#a8324a", 36)
    c.box((166, 130, 186, 430), "#c9586d", 10)
    c.box((166, 72, 346, 124), "#d8c9a0", 10)
    c.line([(168, 98), (344, 98)], "#bfae80", 3)
    c.box((158, 210, 354, 372), paint, 4)
    _lines(c, lines, (166, 216, 346, 366), ink)
    return c.done()


def screen(lines: Sequence[str], paint: Paint = "#f4f6f8", ink: Paint = "#20262c") -> Drawing:
    """A telephone's screen with a message."""
    c = Canvas("#3d4a57", "#27313b")
    c.shadow((120, 30, 400, 500), 0.5, 12)
    c.box((126, 18, 386, 494), "#121416", 34)
    c.box((138, 46, 374, 466), paint, 8)
    c.box((152, 66, 360, 108), "#2f6fd0", 10)
    c.text("Messages", 256, 87, 22, "#ffffff")
    _lines(c, lines, (150, 128, 362, 330), ink)
    c.box((152, 410, 360, 446), mix_colours(paint, "#9aa5b0", 0.35), 16)
    return c.done()


SURFACES = {
    "shop": shop,
    "poster": poster,
    "street_sign": street_sign,
    "book": book,
    "chalkboard": chalkboard,
    "jar": jar,
    "screen": screen,
}


def _lines(c: Canvas, lines: Sequence[str], area: tuple[float, float, float, float], ink: Paint) -> None:
    """Spread over the area in one size, as large as the longest line and the height allow."""
    x0, y0, x1, y1 = area
    pitch = (y1 - y0) / len(lines)
    height = min(0.66 * pitch, 64.0)
    while max(c.text_width(words, height) for words in lines) > x1 - x0 - 8 and height > 8:
        height -= 1
    for number, words in enumerate(lines, start=1):
        box = c.text(words, (x0 + x1) / 2, y0 + (number - 0.5) * pitch, height, ink, weight=0.4)
        c.part(f"line{number}", box)
    c.part("text", area)
