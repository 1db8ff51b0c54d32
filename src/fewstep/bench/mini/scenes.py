"""Places: outdoors and indoors, with things that an edit can name."""

from fewstep.bench.mini.canvas import SIDE, Canvas, Drawing, Paint, darker, mix_colours

SKY = {
    "day": ("#5b9fe6", "#cfe7fb"),
    "dawn": ("#7f6fb5", "#f7c9b0"),
    "dusk": ("#3b3f78", "#f29b5e"),
    "overcast": ("#9aa4ae", "#d5dade"),
    "night": ("#0c1230", "#2e3b6b"),
}


def meadow(sky: str = "day", house: Paint = "#c8452f", tree: bool = True) -> Drawing:
    """A house on a hill with a path, a fence and a tree."""
    c = Canvas(*SKY[sky])
    sun(c, 400, 90, 36, sky)
    clouds(c, [(110, 90), (250, 60)])
    c.polygon([(0, 330), (110, 255), (240, 300), (370, 240), (512, 310), (512, 512), (0, 512)], "#79a86a")
    c.gradient((0, 340, SIDE, SIDE), "#8cc063", "#5f9a42")
    c.polygon([(0, 345), (130, 322), (300, 340), (512, 318), (512, 370), (0, 370)], "#8cc063")
    c.polygon([(250, 512), (350, 512), (300, 400), (262, 352), (248, 352), (272, 400)], "#dbc79c")
    c.part("path", (240, 350, 352, 512))
    _house(c, 205, 345, house)
    if tree:
        _tree(c, 400, 395, 78)
    for x in range(10, 190, 34):
        c.box((x, 398, x + 9, 450), "#f3efe6", 2)
    for y in (410, 430):
        c.box((4, y, 196, y + 7), "#f3efe6", 2)
    c.part("fence", (2, 396, 198, 452))
    return c.done()


def street(sky: str = "day", car: Paint = "#d23c3c", bicycle: bool = False) -> Drawing:
    """A street of narrow houses with a shop, a lamp and a parked car."""
    c = Canvas(*SKY[sky])
    left = 0
    fronts = ("#d9a066", "#8fb0a9", "#c9767a", "#e3d3a2")
    for number, (paint, width) in enumerate(zip(fronts, (118, 140, 122, 132), strict=True)):
        top = (96, 60, 120, 82)[number]
        c.box((left, top, left + width, 400), paint)
        c.polygon([(left - 4, top), (left + width / 2, top - 38), (left + width + 4, top)], "#7a4a3a")
        _windows(c, left, top, width, lit=sky in ("night", "dusk"))
        left += width
    c.box((128, 300, 248, 400), "#3f4f46")
    c.box((140, 318, 196, 392), "#a9cfd8")
    c.box((206, 318, 238, 400), "#6a3b2a")
    for i in range(6):
        c.polygon(
            [(122 + 22 * i, 284), (144 + 22 * i, 284), (144 + 22 * i, 312), (122 + 22 * i, 312)],
            "#c0392b" if i % 2 else "#f5efe0",
        )
    c.part("awning", (120, 282, 256, 314))
    c.gradient((0, 400, SIDE, 436), "#b9b4ab", "#a8a39a")
    c.gradient((0, 436, SIDE, SIDE), "#63666b", "#4a4d52")
    for x in range(10, 512, 90):
        c.box((x, 472, x + 48, 478), "#e9e4d2")
    _lamp_post(c, 268)
    _car(c, 300, 452, car)
    if bicycle:
        _bicycle(c, 90, 432)
    return c.done()


def beach(sky: str = "day", umbrella: Paint = "#e0503c", boat: bool = True) -> Drawing:
    """Sea, sand, an umbrella and a ball."""
    c = Canvas(*SKY[sky])
    sun(c, 96, 84, 34, sky)
    clouds(c, [(300, 70)])
    c.gradient((0, 210, SIDE, 330), "#2f7fb0", "#5cb6c4")
    for y, x in ((240, 60), (262, 300), (286, 140), (300, 380)):
        c.line([(x, y), (x + 40, y - 3), (x + 80, y)], "#a9dbe4", 2)
    if boat:
        c.polygon([(330, 232), (420, 232), (404, 252), (346, 252)], "#7b4a2d")
        c.polygon([(372, 138), (372, 226), (322, 226)], "#f7f5ef")
        c.polygon([(378, 150), (378, 226), (420, 226)], "#e8e2d0")
        c.line([(375, 132), (375, 232)], "#5a3a22", 3)
        c.part("boat", (320, 130, 422, 254))
    c.gradient((0, 330, SIDE, SIDE), "#efd9a7", "#d9bb7e")
    c.oval((-60, 312, 580, 352), "#f4e6c3")
    c.shadow((210, 440, 370, 468), 0.3)
    c.line([(290, 300), (276, 452)], "#f2efe8", 6)
    c.chord((190, 230, 390, 380), 186, 354, umbrella)
    for x in (235, 290, 340):
        c.chord((x - 22, 234, x + 22, 374), 190, 350, mix_colours(umbrella, "white", 0.75))
    c.part("umbrella", (188, 228, 392, 470))
    c.shadow((86, 452, 150, 468), 0.3)
    c.disc(118, 434, 26, "#f4f1e8")
    c.chord((92, 408, 144, 460), 300, 60, "#3b74c4")
    c.chord((92, 408, 144, 460), 120, 240, "#e2b93b")
    c.part("ball", (84, 406, 152, 470))
    return c.done()


def lake(sky: str = "day", tent: Paint = "#e88a2c", canoe: bool = True) -> Drawing:
    """Mountains behind a lake, a tent on the bank."""
    c = Canvas(*SKY[sky])
    sun(c, 420, 70, 30, sky)
    for points, paint in (
        ([(-20, 270), (110, 90), (230, 250), (180, 270)], "#6f7f96"),
        ([(120, 270), (270, 60), (420, 270)], "#5d6d86"),
        ([(320, 270), (440, 120), (560, 270)], "#7686a0"),
    ):
        c.polygon(points, paint)
    for x, y in ((110, 90), (270, 60), (440, 120)):
        c.polygon([(x - 26, y + 36), (x, y), (x + 24, y + 38), (x + 6, y + 28), (x - 8, y + 42)], "#f4f6fa")
    for x in range(-10, 530, 26):
        c.polygon([(x, 276), (x + 13, 222 + (x * 7) % 20), (x + 26, 276)], "#2f5a43")
    c.gradient((0, 274, SIDE, 420), "#4d83a8", "#8fc3d3")
    for x, y, w in ((60, 300, 90), (240, 330, 120), (380, 306, 80), (120, 372, 140)):
        c.line([(x, y), (x + w, y)], "#b9dbe6", 2)
    if canoe:
        c.shadow((280, 366, 424, 384), 0.3, 5)
        c.polygon([(276, 344), (300, 368), (400, 368), (424, 344), (396, 356), (304, 356)], "#b5432f")
        c.part("canoe", (272, 340, 428, 388))
    c.gradient((0, 410, SIDE, SIDE), "#7da257", "#56803c")
    c.oval((-80, 396, 600, 440), "#87ad5f")
    c.shadow((60, 466, 240, 492), 0.35)
    c.polygon([(70, 478), (150, 362), (230, 478)], tent)
    c.polygon([(150, 362), (184, 478), (128, 478)], darker(tent, 0.6))
    c.part("tent", (62, 358, 242, 494))
    return c.done()


def kitchen(mug: Paint = "#3f7fbf", fruit: str = "apples", book: bool = True) -> Drawing:
    """A table at a window with a mug, a bowl of fruit and a book."""
    c = Canvas("#efe5d3", "#e0d2b8")
    c.box((150, 40, 362, 236), "#fbf9f4", 4)
    c.gradient((164, 54, 250, 222), "#8ec4ee", "#d9eefa")
    c.gradient((262, 54, 348, 222), "#8ec4ee", "#d9eefa")
    c.part("window", (148, 38, 364, 238))
    c.gradient((0, 316, SIDE, SIDE), "#b98555", "#8d5f38")
    for y in (350, 398, 452):
        c.line([(0, y), (SIDE, y + 4)], "#a06f44", 2)
    c.shadow((168, 380, 356, 424), 0.4)
    hues = {"apples": ("#c9302c", "#d94b3a", "#8fb83b"), "oranges": ("#ef8f22", "#f3a43c", "#e57f18")}[fruit]
    for (x, y), paint in zip(((222, 322), (262, 306), (304, 322)), hues, strict=True):
        c.disc(x, y, 30, paint)
        c.disc(x - 9, y - 10, 7, mix_colours(paint, "white", 0.55))
        c.line([(x, y - 28), (x + 4, y - 38)], "#5a3a22", 4)
    c.chord((178, 268, 348, 408), 0, 180, "#e9e4da")
    c.box((176, 332, 350, 346), "#f7f4ee", 6)
    c.part("fruit", (188, 266, 338, 340))
    c.part("bowl", (172, 330, 356, 426))
    c.shadow((380, 408, 480, 440), 0.4)
    c.arc((442, 340, 488, 396), 260, 110, darker(mug, 0.85), 10)
    c.box((386, 328, 460, 420), mug, 10)
    c.oval((386, 318, 460, 340), mix_colours(mug, "white", 0.35))
    c.oval((394, 322, 452, 337), "#5a3620")
    c.part("mug", (378, 314, 492, 442))
    if book:
        c.shadow((28, 440, 184, 470), 0.35)
        c.polygon([(30, 430), (150, 404), (186, 436), (62, 464)], "#2f6b58")
        c.polygon([(62, 464), (186, 436), (186, 448), (62, 476)], "#f2ecdc")
        c.part("book", (26, 400, 190, 480))
    return c.done()


def living_room(sofa: Paint = "#4f7f8c", wall: Paint = "#e8dcc8", cat: bool = False) -> Drawing:
    """A sofa under a picture, a floor lamp and a plant."""
    c = Canvas(wall, darker(wall, 0.93))
    c.gradient((0, 380, SIDE, SIDE), "#b58a5e", "#8f6840")
    c.box((0, 372, SIDE, 384), "#f5f0e6")
    c.oval((90, 420, 420, 500), "#b5545a")
    c.oval((112, 430, 398, 490), "#c9767a")
    c.part("rug", (88, 418, 422, 502))
    c.box((176, 66, 336, 186), "#5a3f2b")
    c.gradient((186, 76, 326, 176), "#f0c27b", "#e58f65")
    c.polygon([(186, 176), (230, 120), (262, 150), (292, 108), (326, 176)], "#4b5a78")
    c.part("painting", (174, 64, 338, 188))
    c.shadow((90, 404, 424, 434), 0.4)
    c.box((110, 238, 402, 350), sofa, 22)
    c.box((92, 290, 142, 410), darker(sofa, 0.9), 16)
    c.box((370, 290, 420, 410), darker(sofa, 0.9), 16)
    c.box((134, 318, 378, 394), mix_colours(sofa, "white", 0.12), 14)
    c.line([(256, 320), (256, 392)], darker(sofa, 0.8), 3)
    c.box((150, 262, 214, 326), "#e6b24a", 10)
    c.part("cushion", (148, 260, 216, 328))
    c.part("sofa", (88, 236, 424, 436))
    c.line([(466, 190), (466, 430)], "#3d3a38", 6)
    c.oval((440, 424, 492, 440), "#3d3a38")
    c.glow(466, 170, 90, "#ffe9b0", 0.5)
    c.polygon([(446, 130), (486, 130), (502, 196), (430, 196)], "#f3e3bd")
    c.part("lamp", (428, 126, 504, 442))
    c.shadow((14, 420, 92, 440), 0.35)
    for tip in ((18, 250), (38, 214), (58, 230), (84, 262), (8, 300), (92, 306)):
        c.polygon([(46, 376), (tip[0] - 9, tip[1] + 34), tip, (tip[0] + 9, tip[1] + 34), (56, 376)], "#3f7d4c")
    c.polygon([(22, 366), (82, 366), (74, 432), (30, 432)], "#c8744a")
    c.part("plant", (2, 206, 100, 442))
    if cat:
        _cat(c, 314, 306)
    return c.done()


def desk(lamp: Paint = "#d23c3c", screen: str = "mail", cup: bool = True) -> Drawing:
    """A desk with a laptop, a lamp, a notebook and a cup of pencils."""
    c = Canvas("#cfd9df", "#b9c6ce")
    c.gradient((0, 330, SIDE, SIDE), "#d8b483", "#b58d5b")
    c.shadow((130, 408, 374, 440), 0.35)
    c.box((150, 216, 354, 352), "#3a3d42", 10)
    c.gradient((160, 226, 344, 342), "#eef4f8", "#d8e6ee")
    for y in range(240, 330, 18):
        c.box((172, y, 240 + (y * 5) % 80, y + 8), "#9fb6c4" if screen == "mail" else "#7aa87f", 3)
    c.polygon([(150, 352), (354, 352), (386, 420), (118, 420)], "#8b9097")
    c.polygon([(166, 360), (338, 360), (356, 394), (148, 394)], "#5e6369")
    c.part("laptop", (112, 212, 392, 442))
    c.shadow((400, 400, 488, 420), 0.35)
    c.oval((408, 396, 480, 414), darker(lamp, 0.8))
    c.line([(444, 402), (474, 300), (414, 220)], darker(lamp, 0.7), 7)
    c.polygon([(380, 196), (430, 190), (446, 252), (372, 258)], lamp)
    c.part("lamp", (368, 186, 490, 422))
    c.shadow((20, 466, 150, 488), 0.3)
    c.polygon([(24, 448), (120, 432), (150, 472), (50, 492)], "#f4e7a1")
    for i in range(3):
        c.line([(48 + 8 * i, 452 + 9 * i), (112 + 8 * i, 441 + 9 * i)], "#a8a07a", 2)
    c.part("notebook", (18, 428, 156, 496))
    if cup:
        for x, paint in ((60, "#d9534f"), (74, "#4a90d9"), (88, "#5cb85c")):
            c.line([(x, 300), (72 + (x - 74) / 2, 380)], paint, 6)
        c.shadow((40, 394, 112, 412), 0.35)
        c.box((46, 340, 104, 404), "#f3efe6", 6)
        c.part("cup", (38, 292, 116, 414))
    return c.done()


# ---- things


def sun(c: Canvas, x: float, y: float, radius: float, sky: str) -> None:
    """The sun; a moon at night, nothing if the sky is overcast."""
    if sky == "overcast":
        return
    paint = "#f3f1dc" if sky == "night" else "#ffd95a"
    c.glow(x, y, radius * 2.4, paint, 0.55)
    c.disc(x, y, radius, paint)
    c.part("sun", (x - radius, y - radius, x + radius, y + radius))


def clouds(c: Canvas, places: list[tuple[float, float]]) -> None:
    for x, y in places:
        for dx, dy, radius in ((-30, 6, 20), (0, -6, 28), (32, 4, 22)):
            c.disc(x + dx, y + dy, radius, "#f6f9fc")
        c.box((x - 48, y + 4, x + 52, y + 26), "#f6f9fc", 11)


def _house(c: Canvas, x: float, ground: float, paint: Paint) -> None:
    c.shadow((x - 70, ground - 6, x + 90, ground + 22), 0.3)
    c.box((x - 62, ground - 96, x + 62, ground + 8), "#f4ead4")
    c.polygon([(x - 78, ground - 92), (x, ground - 158), (x + 78, ground - 92)], paint)
    c.box((x + 26, ground - 150, x + 44, ground - 110), darker(paint, 0.7))
    c.box((x - 14, ground - 48, x + 18, ground + 8), "#7a4a2d", 3)
    for at in (x - 48, x + 28):
        c.box((at, ground - 70, at + 24, ground - 44), "#8fbcd8")
        c.line([(at + 12, ground - 70), (at + 12, ground - 44)], "#f4ead4", 2)
    c.part("roof", (x - 80, ground - 160, x + 80, ground - 90))
    c.part("house", (x - 80, ground - 160, x + 92, ground + 24))


def _tree(c: Canvas, x: float, ground: float, radius: float) -> None:
    c.shadow((x - radius, ground - 8, x + radius, ground + 16), 0.3)
    c.polygon([(x - 11, ground + 4), (x - 7, ground - 90), (x + 7, ground - 90), (x + 12, ground + 4)], "#6b4a30")
    for dx, dy, share in ((-0.45, -0.1, 0.62), (0.45, -0.05, 0.6), (0, -0.55, 0.7), (0, 0.05, 0.6)):
        c.disc(x + dx * radius, ground - 130 + dy * radius, share * radius, "#3f7f3f")
    for dx, dy in ((-0.3, -0.5), (0.25, -0.3), (-0.1, 0.0)):
        c.disc(x + dx * radius, ground - 130 + dy * radius, 0.24 * radius, "#55994f")
    c.part("tree", (x - 1.08 * radius, ground - 140 - 1.3 * radius, x + 1.08 * radius, ground + 18))


def _windows(c: Canvas, left: float, top: float, width: float, lit: bool) -> None:
    for row in range(2):
        for column in range(2):
            x, y = left + width * (0.18 + 0.42 * column), top + 28 + 84 * row
            c.box((x - 3, y - 3, x + 29, y + 47), "#f5f0e4")
            c.box((x, y, x + 26, y + 44), "#ffdf8e" if lit and (row + column) % 2 == 0 else "#7f9db0")


def _lamp_post(c: Canvas, x: float) -> None:
    c.box((x - 3, 190, x + 3, 436), "#2f3336")
    c.box((x - 9, 424, x + 9, 438), "#2f3336", 3)
    c.polygon([(x - 12, 190), (x + 12, 190), (x + 8, 158), (x - 8, 158)], "#f7e7a8")
    c.polygon([(x - 14, 158), (x, 142), (x + 14, 158)], "#2f3336")
    c.part("lamp", (x - 16, 140, x + 16, 440))


def _car(c: Canvas, x: float, ground: float, paint: Paint) -> None:
    c.shadow((x - 4, ground - 2, x + 196, ground + 22), 0.45)
    c.polygon([(x + 36, ground - 44), (x + 62, ground - 84), (x + 132, ground - 84), (x + 162, ground - 44)], paint)
    c.polygon([(x + 48, ground - 46), (x + 68, ground - 76), (x + 94, ground - 76), (x + 94, ground - 46)], "#bfdbe6")
    c.polygon(
        [(x + 102, ground - 46), (x + 102, ground - 76), (x + 128, ground - 76), (x + 148, ground - 46)], "#bfdbe6"
    )
    c.box((x, ground - 48, x + 192, ground - 4), paint, 14)
    c.box((x + 180, ground - 40, x + 192, ground - 28), "#f7e7a8", 3)
    for wheel in (x + 42, x + 150):
        c.disc(wheel, ground - 2, 20, "#22252a")
        c.disc(wheel, ground - 2, 9, "#c9ccd1")
    c.part("car", (x - 6, ground - 88, x + 200, ground + 26))


def _bicycle(c: Canvas, x: float, ground: float) -> None:
    for wheel in (x, x + 78):
        c.arc((wheel - 28, ground - 46, wheel + 28, ground + 10), 0, 360, "#23262b", 4)
    frame = [(x, ground - 18), (x + 26, ground - 62), (x + 62, ground - 62), (x + 36, ground - 18), (x, ground - 18)]
    c.line(frame, "#1f7a5c", 5)
    c.line([(x + 26, ground - 62), (x + 36, ground - 18)], "#1f7a5c", 5)
    c.line([(x + 78, ground - 18), (x + 58, ground - 78), (x + 70, ground - 82)], "#1f7a5c", 5)
    c.box((x + 14, ground - 74, x + 38, ground - 67), "#3a2a20", 3)
    c.part("bicycle", (x - 32, ground - 88, x + 110, ground + 14))


def _cat(c: Canvas, x: float, ground: float) -> None:
    """Asleep on the sofa."""
    c.oval((x - 48, ground - 24, x + 44, ground + 22), "#d98a3d")
    c.disc(x - 40, ground - 16, 20, "#d98a3d")
    for ear in (-54, -34):
        c.polygon([(x + ear, ground - 24), (x + ear + 5, ground - 46), (x + ear + 14, ground - 28)], "#c47a30")
    c.arc((x + 14, ground - 18, x + 62, ground + 24), 300, 120, "#c47a30", 9)
    for eye in (-48, -34):
        c.arc((x + eye - 4, ground - 20, x + eye + 4, ground - 13), 0, 180, "#4a2f18", 2)
    c.part("cat", (x - 62, ground - 48, x + 66, ground + 28))


PLACES = {
    "meadow": meadow,
    "street": street,
    "beach": beach,
    "lake": lake,
    "kitchen": kitchen,
    "living_room": living_room,
    "desk": desk,
}
