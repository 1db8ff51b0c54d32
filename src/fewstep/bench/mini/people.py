"""Portraits of people who do not exist: head and shoulders, each with a face of its own."""

from fewstep.bench.mini.canvas import Canvas, Drawing, Paint, darker, mix_colours

SKIN = {"pale": "#f6d7c3", "light": "#edbd97", "tan": "#c98f62", "brown": "#8d5a3b", "dark": "#5c3a28"}
HAIR = {"black": "#26211f", "brown": "#5b3a24", "blond": "#d9b25f", "red": "#a9471f", "grey": "#a7a7a5"}
WALLS = {
    "studio": ("#c9d2d8", "#9fabb3"),
    "warm": ("#ecd9bd", "#cfae84"),
    "green": ("#b9cfae", "#7f9f78"),
    "blue": ("#a9c2dd", "#6f8fb5"),
    "rose": ("#e8c4c4", "#c79595"),
}


def portrait(
    skin: str = "light",
    hair: str = "brown",
    cut: str = "short",
    shirt: Paint = "#3f6fa8",
    wall: str = "studio",
    mood: str = "calm",
    glasses: bool = False,
    beard: bool = False,
    hat: Paint | None = None,
    old: bool = False,
    wide: float = 1.0,
) -> Drawing:
    """cut: short, long, bun, curly or bald. wide: breadth of the face; 1 is average."""
    c = Canvas(*WALLS[wall])
    face, dye, half = SKIN[skin], HAIR[hair], 84 * wide
    _hair_behind(c, cut, dye, half)
    _shoulders(c, face, shirt)
    c.oval((256 - half - 12, 226, 256 - half + 16, 276), darker(face, 0.92))
    c.oval((256 + half - 16, 226, 256 + half + 12, 276), darker(face, 0.92))
    c.oval((256 - half, 122, 256 + half, 352), face)
    c.part("face", (256 - half - 14, 120, 256 + half + 14, 356))
    if beard:
        c.chord((256 - half + 3, 210, 256 + half - 3, 354), 8, 172, darker(dye, 0.95))
        c.part("beard", (256 - half, 262, 256 + half, 358))
    _eyes(c, dye, half, glasses)
    c.line([(256, 236), (249, 278), (260, 283)], darker(face, 0.78), 4)
    _mouth(c, mood, face)
    if old:
        _lines(c, face)
    _hair_before(c, cut, dye, half)
    c.part("hair", (256 - half - 40, 84, 256 + half + 40, 400 if cut == "long" else 240))
    if hat:
        c.oval((256 - half - 46, 146, 256 + half + 46, 186), darker(hat, 0.85))
        c.box((256 - half + 6, 74, 256 + half - 6, 166), hat, 24)
        c.box((256 - half + 6, 138, 256 + half - 6, 158), darker(hat, 0.6))
        c.part("hat", (256 - half - 50, 70, 256 + half + 50, 190))
    return c.done()


def _shoulders(c: Canvas, face: Paint, shirt: Paint) -> None:
    c.box((216, 320, 296, 420), darker(face, 0.86), 20)
    c.box((84, 396, 428, 640), shirt, 70)
    c.polygon([(212, 396), (300, 396), (256, 446)], darker(face, 0.9))
    c.line([(212, 396), (256, 448), (300, 396)], darker(shirt, 0.75), 5)
    c.part("shirt", (80, 392, 432, 512))
    c.part("person", (80, 84, 432, 512))


def _eyes(c: Canvas, dye: Paint, half: float, glasses: bool) -> None:
    for side in (-1, 1):
        x = 256 + side * 0.45 * half
        c.oval((x - 17, 222, x + 17, 244), "#fbfaf7")
        c.disc(x, 233, 10, "#4d6a55")
        c.disc(x, 233, 5, "#15181b")
        c.disc(x + 3, 230, 2.2, "#ffffff")
        c.line([(x - 20, 210), (x, 203), (x + 20, 209)], darker(dye, 0.9), 6)
        if glasses:
            c.arc((x - 28, 208, x + 28, 260), 0, 360, "#22252a", 5)
    if glasses:
        c.line([(256 - 0.45 * half + 27, 230), (256 + 0.45 * half - 27, 230)], "#22252a", 5)
        c.part("glasses", (256 - 0.45 * half - 32, 204, 256 + 0.45 * half + 32, 264))
    c.part("eyes", (256 - 0.45 * half - 24, 198, 256 + 0.45 * half + 24, 250))


def _mouth(c: Canvas, mood: str, face: Paint) -> None:
    lips = mix_colours(face, "#a03a3a", 0.6)
    if mood == "smiling":
        c.chord((218, 276, 294, 326), 10, 170, "#ffffff")
        c.arc((216, 274, 296, 328), 8, 172, lips, 6)
    elif mood == "sad":
        c.arc((224, 306, 288, 348), 205, 335, lips, 6)
    else:
        c.line([(228, 309), (256, 312), (284, 309)], lips, 7)
    c.part("mouth", (212, 284, 300, 334))


def _lines(c: Canvas, face: Paint) -> None:
    shade = darker(face, 0.82)
    for y in (166, 178):
        c.line([(222, y + 2), (256, y), (290, y + 2)], shade, 2)
    for side in (-1, 1):
        c.line([(256 + side * 30, 278), (256 + side * 44, 304)], shade, 3)
        c.line([(256 + side * 66, 230), (256 + side * 76, 224)], shade, 2)
        c.line([(256 + side * 66, 238), (256 + side * 76, 240)], shade, 2)


def _hair_behind(c: Canvas, cut: str, dye: Paint, half: float) -> None:
    if cut == "long":
        c.box((256 - half - 34, 110, 256 + half + 34, 410), darker(dye, 0.8), 90)
    elif cut == "curly":
        for x, y in ((-80, 150), (-104, 200), (-92, 252), (80, 150), (104, 200), (92, 252)):
            c.disc(256 + x * half / 84, y, 40, darker(dye, 0.85))
    elif cut == "bun":
        c.disc(256, 98, 38, darker(dye, 0.85))


def _hair_before(c: Canvas, cut: str, dye: Paint, half: float) -> None:
    if cut == "bald":
        return
    if cut == "curly":
        for x, y in ((-70, 142), (-38, 120), (0, 112), (38, 120), (70, 142)):
            c.disc(256 + x * half / 84, y, 34, dye)
        return
    c.chord((256 - half - 6, 104, 256 + half + 6, 282), 188, 352, dye)
    fringe = 0.3 if cut == "short" else -0.2
    c.polygon(
        [
            (256 - half, 180),
            (256 - fringe * half, 132),
            (256 + half, 184),
            (256 + half, 210),
            (256, 150),
            (256 - half, 214),
        ],
        dye,
    )
