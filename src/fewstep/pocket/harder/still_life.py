"""Still lives: fruit and a vessel on a table, with the shadows that they throw."""

from __future__ import annotations

import numpy as np

from fewstep.pocket.harder.brush import Colour, Field, LitCanvas, mixed, tint
from fewstep.pocket.harder.scenes import Scene
from fewstep.pocket.harder.walls import draw_wall, wood

FRUIT = {
    "red": tint("cc3a34"),
    "green": tint("86b23e"),
    "yellow": tint("eebb3a"),
    "purple": tint("74448e"),
}
VESSEL = {
    "blue": tint("3f6cc0"),
    "white": tint("e8e6e0"),
    "red": tint("b8423a"),
    "green": tint("4a8f5e"),
    "yellow": tint("e6b944"),
}
TABLE = {
    "wooden": tint("ad7a48"),
    "white": tint("e9e5dc"),
    "dark": tint("4a3c3a"),
    "checked": tint("dfe4e6"),
}
NUMBER = {"one": 1, "two": 2, "three": 3}
BEHIND = {"afar": -4.0, "near": 2.0}  # px that all things are lower, and the table's edge


def draw_still_life(canvas: LitCanvas, it: Scene) -> None:
    draw_wall(canvas, it["wall"])
    edge = canvas.height - 34.0 + BEHIND[it["pose"]]
    draw_table(canvas, it["table"], edge)
    vessel_x, fruit_x = standing_places(canvas, it["side"])
    draw_vessel(canvas, vessel_x, edge + 13, it)
    number = NUMBER[it["count"]]
    for k in range(number):
        x = fruit_x + 13.5 * (k - (number - 1) / 2)
        draw_fruit(
            canvas, x, edge + (20 if it["side"] != "front" else 25) + 1.5 * (k % 2), it["fruit"], FRUIT[it["colour"]]
        )


def standing_places(canvas: LitCanvas, side: str) -> tuple[float, float]:
    """x of the vessel and of the middle of the fruit."""
    middle = canvas.width / 2
    return {"left": (middle + 24, middle - 17), "right": (middle - 24, middle + 17), "front": (middle, middle)}[side]


def draw_table(canvas: LitCanvas, name: str, edge: float) -> None:
    light: Field = canvas.falloff(0.3)
    near = np.clip((canvas.y - edge) / 34, 0, 1)
    if name == "wooden":
        light = light * wood(canvas, canvas.y * 1.0, canvas.x)
    colour: Colour = TABLE[name]
    if name == "checked":
        across = (canvas.x - canvas.width / 2) / (0.7 + 0.5 * near)
        check = np.sin(across * np.pi / 8) * np.sin((canvas.y - edge) * np.pi / (6 + 4 * near))
        colour = mixed(TABLE[name], tint("c8504a"), np.clip(0.5 + 3 * check, 0, 1) * 0.75)
    canvas.shade(canvas.below(edge - 1), 4, 0.12)
    canvas.paint(canvas.below(edge), colour, light * (0.92 + 0.12 * near))


def draw_vessel(canvas: LitCanvas, x: float, foot: float, it: Scene) -> None:
    paint = np.asarray(VESSEL[it["paint"]], np.float32)
    canvas.shade(canvas.ellipse(x - 9 * canvas.side, foot, 19, 3.5), 4, 0.45)
    shape, rim = VESSELS[it["vessel"]](canvas, x, foot)
    light = {"clay": canvas.pillar(x, 15), "glass": canvas.pillar(x, 15, shine=0.5), "metal": metallic(canvas, x)}[
        it["material"]
    ]
    alpha = 0.62 if it["material"] == "glass" else 1.0
    canvas.paint(shape, paint, light, alpha)
    if it["material"] == "glass":
        canvas.paint(np.abs(shape + 1) - 1, paint * 0.7, 1.0, 0.7)
    canvas.paint(rim, paint * 0.45, 1.0, alpha)


def metallic(canvas: LitCanvas, x: float) -> Field:
    """Bands as a polished thing shows them."""
    u = np.clip((canvas.x - x) / 15, -1, 1) * canvas.side
    return (0.72 + 0.3 * np.sin(u * 5.2 + 0.4) + 0.55 * np.exp(-((u - 0.42) ** 2) / 0.012)).astype(np.float32)


def cup(canvas: LitCanvas, x: float, y: float) -> tuple[Field, Field]:
    handle = np.abs(canvas.ellipse(x + 13.5, y - 12, 6, 6)) - 1.6
    body = canvas.convex((x - 13, y - 23), (x + 13, y - 23), (x + 10, y), (x - 10, y)) - 1
    return np.minimum(body, handle), canvas.ellipse(x, y - 23, 12, 2.8)


def vase(canvas: LitCanvas, x: float, y: float) -> tuple[Field, Field]:
    neck = canvas.box(x - 5, y - 42, x + 5, y - 22, 1)
    lip = canvas.ellipse(x, y - 41, 8.5, 3.2)
    return np.minimum(np.minimum(canvas.ellipse(x, y - 14, 15, 14.5), neck), lip), canvas.ellipse(x, y - 42, 6, 1.8)


def bottle(canvas: LitCanvas, x: float, y: float) -> tuple[Field, Field]:
    body = canvas.box(x - 9, y - 28, x + 9, y, 4)
    neck = canvas.box(x - 3.6, y - 46, x + 3.6, y - 24, 2)
    return np.minimum(body, neck), canvas.box(x - 4.6, y - 48, x + 4.6, y - 43.5, 1)


def bowl(canvas: LitCanvas, x: float, y: float) -> tuple[Field, Field]:
    half = np.maximum(canvas.ellipse(x, y - 17, 20, 16), canvas.below(y - 17))
    return np.minimum(half, canvas.box(x - 7, y - 4, x + 7, y, 1)), canvas.ellipse(x, y - 17, 19, 3.4)


VESSELS = {"cup": cup, "vase": vase, "bottle": bottle, "bowl": bowl}


def draw_fruit(canvas: LitCanvas, x: float, y: float, kind: str, colour: Colour) -> None:
    """It stands at (x, y)."""
    canvas.shade(canvas.ellipse(x - 4 * canvas.side, y, 8, 2.4), 2.5, 0.45)
    light = canvas.ball(x, y - 7, 8, 8, shine=0.35)
    if kind == "pear":
        canvas.paint(canvas.ellipse(x, y - 13.5, 4.2, 6.5), colour, canvas.ball(x, y - 11, 8, 14), edge=2)
    wide, high = {"apple": (7.4, 7.0), "pear": (7.0, 6.6), "orange": (7.6, 7.6), "plum": (5.6, 7.4)}[kind]
    canvas.paint(canvas.ellipse(x, y - high, wide, high), colour, light, edge=2)
    if kind == "orange":
        canvas.glow(x, y - 14, 1.8, tint("3c6a2a"), -0.4)
        canvas.paint(canvas.ellipse(x, y - 13.8, 1.8, 1.3), tint("3c6a2a"))
        return
    top = y - (20 if kind == "pear" else 2 * high)
    canvas.paint(canvas.stroke(x, top + 2, x + 1.5, top - 2.5, 1.9), tint("5a3a22"))
    if kind == "apple":
        canvas.paint(canvas.ellipse(x + 4, top - 1, 3.2, 1.8), tint("5f9a3a"))
