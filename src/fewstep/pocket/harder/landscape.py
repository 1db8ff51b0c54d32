"""Landscapes: a lit sky, hills that fade with distance, ground with a grain, and things that throw shadows."""

from __future__ import annotations

import numpy as np

from fewstep.pocket.harder.attributes import NONE
from fewstep.pocket.harder.brush import Field, LitCanvas, mixed, tint
from fewstep.pocket.harder.scenes import Scene

SKY = {  # at the top, at the horizon
    "day": (tint("3f83d8"), tint("cfe6f7")),
    "dawn": (tint("8d6fc0"), tint("fbc9c4")),
    "sunset": (tint("a8385c"), tint("ffc46a")),
    "night": (tint("070b26"), tint("2b3a72")),
    "storm": (tint("39434f"), tint("a3adb2")),
}
DAYLIGHT = {  # what all but the sky is multiplied by
    "day": (1.0, 1.0, 1.0),
    "dawn": (0.93, 0.82, 0.90),
    "sunset": (1.0, 0.80, 0.66),
    "night": (0.44, 0.50, 0.72),
    "storm": (0.68, 0.72, 0.76),
}
SUN = {
    "day": tint("fff3b0"),
    "dawn": tint("ffe0c0"),
    "sunset": tint("ffd978"),
    "night": tint("ffd978"),
    "storm": tint("fff0c8"),
}
GROUND = {  # far away, near
    "grass": (tint("8fc46a"), tint("3f8a3a")),
    "wheat": (tint("ecd07a"), tint("c08a2e")),
    "sand": (tint("f3dca6"), tint("c79a5c")),
    "snow": (tint("f4f7fc"), tint("b8c4da")),
    "sea": (tint("5fb3c4"), tint("12527e")),
}
HILLS = {
    "green": tint("5f9456"),
    "grey": tint("7c828e"),
    "snowy": tint("6f7f9c"),
    "purple": tint("7a5a9e"),
}
PAINT = {
    "red": tint("cf3a34"),
    "blue": tint("3a66cc"),
    "yellow": tint("f0c43c"),
    "green": tint("3c8c46"),
    "orange": tint("e8862c"),
    "white": tint("f2efe8"),
}
WOOD, CREAM, STONE = tint("6e4a30"), tint("f2e4c8"), tint("8a8578")
PLACES = {"left": 0.2, "middle": 0.5, "right": 0.8}
SPACING = 28.0  # px between things
POSES = ("west", "north", "east")


def horizon(canvas: LitCanvas) -> float:
    return round(0.58 * canvas.height / 8) * 8.0


def draw_landscape(canvas: LitCanvas, it: Scene) -> None:
    draw_sky(canvas, it)
    air = np.asarray(DAYLIGHT[it["time"]], np.float32)
    if it["hills"] != NONE:
        draw_hills(canvas, it, air)
    draw_ground(canvas, it, air)
    if it["weather"] == "mist":
        draw_mist(canvas, it)
    if it["thing"] != NONE:
        for x in positions(canvas, it):
            THINGS[it["thing"]](
                canvas, x, np.asarray(PAINT[it["colour"]], np.float32) * air, air, it["time"] == "night"
            )


def positions(canvas: LitCanvas, it: Scene) -> list[float]:
    """Where the things stand, from left to right."""
    number = {"one": 1, "two": 2, "three": 3}[it["count"]]
    if number == 1:
        return [PLACES[it["place"]] * canvas.width]
    return [canvas.width / 2 + SPACING * (k - (number - 1) / 2) for k in range(number)]


def body_at(canvas: LitCanvas) -> tuple[float, float]:
    """Sun and moon stand on the side that the light comes from."""
    return canvas.width * (0.5 + 0.28 * canvas.side), 0.2 * canvas.height


def draw_sky(canvas: LitCanvas, it: Scene) -> None:
    top, low = SKY[it["time"]]
    canvas.fill(mixed(top, low, np.clip(canvas.y / horizon(canvas), 0, 1) ** 1.3))
    if it["time"] == "night":
        draw_stars(canvas)
    x, y = body_at(canvas)
    if it["body"] == "sun":
        canvas.glow(x, y, 34, SUN[it["time"]], 0.38)
        canvas.paint(canvas.ellipse(x, y, 7.5, 7.5), SUN[it["time"]], 1.0 + 0.05 * canvas.falloff(0.2))
    if it["body"] == "moon":
        canvas.glow(x, y, 22, tint("cfd8f4"), 0.22)
        disc, bite = canvas.ellipse(x, y, 8, 8), canvas.ellipse(x - 4.5 * canvas.side, y - 3, 7, 7)
        canvas.paint(np.maximum(disc, -bite), tint("f6f4e6"))
    if it["weather"] == "clouds":
        draw_clouds(canvas, it)


def draw_stars(canvas: LitCanvas) -> None:
    for k in range(9):
        x, y = (0.07 + 0.61 * k) % 1 * canvas.width, (0.05 + 0.173 * k) % 0.42 * canvas.height
        canvas.glow(x, y, 1.3, tint("ffffff"), 0.55)


def draw_clouds(canvas: LitCanvas, it: Scene) -> None:
    shift = POSES.index(it["pose"]) * 0.3
    lit = mixed(SKY[it["time"]][1], tint("ffffff"), 0.55 if it["time"] in ("day", "dawn") else 0.15)
    dim = mixed(SKY[it["time"]][0], lit, 0.55)
    for k, (across, down) in enumerate(((0.15, 0.15), (0.55, 0.30), (0.85, 0.11))):
        x, y = (across + shift) % 1 * canvas.width, down * canvas.height
        puffs = [canvas.ellipse(x + dx, y + dy, rx, ry) for dx, dy, rx, ry in PUFFS[k % 2]]
        whole = np.minimum.reduce(puffs)
        canvas.paint(whole, mixed(lit, dim, np.clip((canvas.y - y + 5) / 11, 0, 1)), alpha=0.92, edge=4)


PUFFS = (
    ((-9, 1.5, 8, 4), (0, -2, 8.5, 6), (9, 1.5, 9, 4)),
    ((-7, 1, 7, 3.5), (3, -1, 9, 4.5), (13, 1.5, 6, 3)),
)


def ridge(canvas: LitCanvas, it: Scene, back: bool) -> Field:
    """Height of the hills over the horizon, px, along x."""
    at = canvas.x / 96 + 0.37 * POSES.index(it["pose"]) + 0.21 * back
    if it["hills"] == "green":
        return 8 + 5 * back + 4 * np.sin(6.5 * at) + 2.5 * np.sin(11 * at + 1)
    saw = np.abs((at * (2.1 + 0.6 * back)) % 1 - 0.5) * 2
    other = np.abs((at * (3.3 - 0.4 * back) + 0.4) % 1 - 0.5) * 2
    return 5 + 6 * back + 17 * saw * (0.75 + 0.25 * other) + 4 * other


def draw_hills(canvas: LitCanvas, it: Scene, air: Field) -> None:
    base, far = horizon(canvas), np.asarray(SKY[it["time"]][1], np.float32)
    for back in (True, False):
        height = ridge(canvas, it, back)
        top = base - height
        slope = np.gradient(height, axis=1) * -canvas.side
        light: Field = 0.9 + 0.22 * np.tanh(1.5 * slope)
        stone = mixed(np.asarray(HILLS[it["hills"]], np.float32) * air, far, 0.45 if back else 0.12)
        canvas.paint(canvas.below(top), stone, light)
        if it["hills"] == "snowy":
            cap = np.maximum(canvas.below(top), canvas.above(top + 0.42 * height + 1.5 * np.sin(canvas.x * 0.8)))
            canvas.paint(cap, mixed(255 * air, far, 0.3 if back else 0.05), light + 0.08)


def draw_ground(canvas: LitCanvas, it: Scene, air: Field) -> None:
    base = horizon(canvas)
    near = np.clip((canvas.y - base) / (canvas.height - base), 0, 1)
    far_colour, near_colour = GROUND[it["ground"]]
    colour: Field = mixed(far_colour, near_colour, near**0.8) * air
    if it["ground"] == "sea":
        colour = mixed(SKY[it["time"]][1], colour, 0.45 + 0.5 * near)
    canvas.paint(
        canvas.below(base), colour, GRAIN[it["ground"]](canvas.x + 31.0 * POSES.index(it["pose"]), canvas.y, near)
    )
    if it["ground"] == "sea" and it["body"] != NONE:
        draw_glitter(canvas, it, base)


# Grains: a factor around 1 at each point; `near` is 0 at the horizon and 1 at the lower edge. The pose shifts x.
def waves(x: Field, y: Field, near: Field) -> Field:
    return 1 + 0.07 * np.sin(y * 26 / (8 + 18 * near) + 1.3 * np.sin(x / 9)) * (0.4 + near)


def tufts(x: Field, y: Field, near: Field) -> Field:
    return 1 + 0.09 * (np.sin(x / 3.1 + 4 * near) * np.sin(y / 2.3) + np.sin(x / 11 + y / 5)) * near


def rows(x: Field, y: Field, near: Field) -> Field:
    """Furrows that meet far away."""
    return 1 + 0.10 * np.sin((x - 48) / (0.35 + near) / 3.4) * np.clip(near * 2, 0, 1)


def dunes(x: Field, y: Field, near: Field) -> Field:
    return 1 + 0.07 * np.sin(y / 4.2 + 1.6 * np.sin(x / 15)) * (0.3 + near)


def drifts(x: Field, y: Field, near: Field) -> Field:
    return 1 + 0.06 * np.sin(y / 6.5 + 1.6 * np.sin(x / 19 + 2)) * (0.4 + 0.6 * near)


GRAIN = {"sea": waves, "grass": tufts, "wheat": rows, "sand": dunes, "snow": drifts}


def draw_glitter(canvas: LitCanvas, it: Scene, base: float) -> None:
    x, _ = body_at(canvas)
    wide = 5 + 0.35 * (canvas.y - base)
    ripple = 0.5 + 0.5 * np.sin(canvas.y * 1.25)
    strength = np.exp(-(((canvas.x - x) / wide) ** 2)) * ripple * (canvas.y > base) * 0.42
    canvas.pixels += strength[..., None] * np.asarray(
        SUN[it["time"]] if it["body"] == "sun" else tint("cfd8f4"), np.float32
    )


def draw_mist(canvas: LitCanvas, it: Scene) -> None:
    base = horizon(canvas)
    thick = 0.8 * np.exp(-(((canvas.y - base + 2) / 15) ** 2))
    canvas.paint(np.full_like(canvas.y, -9), mixed(SKY[it["time"]][1], tint("ffffff"), 0.1), alpha=thick)


def foot(canvas: LitCanvas) -> float:
    """Where things stand, y."""
    return horizon(canvas) + 0.72 * (canvas.height - horizon(canvas))


def draw_house(canvas: LitCanvas, x: float, paint: Field, air: Field, lamp: bool) -> None:
    y = foot(canvas)
    canvas.shade(canvas.ellipse(x - 5 * canvas.side, y, 15, 2.5), 3, 0.42)
    canvas.paint(
        canvas.box(x - 9.5, y - 17, x + 9.5, y),
        np.asarray(CREAM) * air,
        0.86 + 0.16 * np.tanh(canvas.side * (canvas.x - x) / 5),
    )
    canvas.paint(
        canvas.convex((x - 13, y - 15), (x, y - 29), (x + 13, y - 15)),
        paint,
        0.9 + 0.2 * np.tanh(canvas.side * (canvas.x - x) / 3),
    )
    canvas.paint(canvas.box(x - 3, y - 10, x + 2, y, 1), np.asarray(WOOD) * air)
    window = tint("ffd772") if lamp else np.asarray(tint("86b4d8")) * air
    canvas.paint(canvas.box(x + 4, y - 12, x + 8, y - 8), window)


def draw_tree(canvas: LitCanvas, x: float, paint: Field, air: Field, lamp: bool) -> None:
    y = foot(canvas)
    canvas.shade(canvas.ellipse(x - 6 * canvas.side, y, 14, 2.8), 3, 0.42)
    canvas.paint(
        canvas.convex((x - 1.6, y - 16), (x + 1.6, y - 16), (x + 2.8, y), (x - 2.8, y)),
        np.asarray(WOOD) * air,
        canvas.pillar(x, 2.8),
    )
    for dx, dy, r in ((-5.5, -19, 7.5), (5.5, -19, 7.5), (0, -26, 8.5)):
        canvas.paint(canvas.ellipse(x + dx, y + dy, r, r * 0.95), paint, canvas.ball(x + dx, y + dy, r, r), edge=2)


def draw_boat(canvas: LitCanvas, x: float, paint: Field, air: Field, lamp: bool) -> None:
    y = foot(canvas)
    canvas.shade(canvas.ellipse(x, y + 1.5, 13, 2.2), 3, 0.35)
    canvas.paint(
        canvas.convex((x - 13, y - 7), (x + 13, y - 7), (x + 8, y + 1), (x - 8, y + 1)),
        np.asarray(WOOD) * 1.25 * air,
        canvas.pillar(x, 18),
    )
    canvas.paint(canvas.box(x - 0.9, y - 30, x + 0.9, y - 6), np.asarray(WOOD) * air)
    canvas.paint(
        canvas.convex((x - 2, y - 29), (x - 2, y - 9), (x - 11, y - 9)), paint, 0.85 + 0.012 * (canvas.x - x + 11)
    )
    canvas.paint(canvas.convex((x + 2, y - 27), (x + 11, y - 9), (x + 2, y - 9)), paint, 0.95 + 0.012 * (canvas.x - x))


def draw_tower(canvas: LitCanvas, x: float, paint: Field, air: Field, lamp: bool) -> None:
    """A lighthouse with two bands in its colour."""
    y = foot(canvas)
    canvas.shade(canvas.ellipse(x - 5 * canvas.side, y, 11, 2.5), 3, 0.42)
    body = canvas.convex((x - 4, y - 30), (x + 4, y - 30), (x + 6.5, y), (x - 6.5, y))
    bands = np.sin((y - canvas.y) * np.pi / 7.5) > 0
    canvas.paint(
        body,
        np.where(bands[..., None], np.asarray(paint, np.float32), np.asarray(CREAM, np.float32) * air),
        canvas.pillar(x, 6.5),
    )
    canvas.paint(
        canvas.box(x - 3.2, y - 36, x + 3.2, y - 30, 1),
        tint("fff0a0") if lamp else np.asarray(tint("d8e4e8")) * air,
    )
    canvas.paint(canvas.convex((x - 5, y - 35), (x, y - 41), (x + 5, y - 35)), np.asarray(STONE) * 0.6 * air)
    if lamp:
        canvas.glow(x, y - 33, 9, tint("fff0a0"), 0.5)


THINGS = {"house": draw_house, "tree": draw_tree, "boat": draw_boat, "tower": draw_tower}
