"""Portraits: head and shoulders before a wall, lit from one side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewstep.pocket.harder.attributes import NONE
from fewstep.pocket.harder.brush import Colour, LitCanvas, tint
from fewstep.pocket.harder.scenes import Scene
from fewstep.pocket.harder.walls import draw_wall

SKIN = {
    "pale": tint("f8d6bf"),
    "tan": tint("dba77c"),
    "brown": tint("a06a46"),
    "dark": tint("64402c"),
}
HAIR = {
    "black": tint("2a262c"),
    "brown": tint("6e4526"),
    "blond": tint("e2c067"),
    "red": tint("b8521f"),
    "white": tint("dcdce2"),
    "blue": tint("3d62c4"),
}
CLOTH = {
    "red": tint("cc3b3b"),
    "blue": tint("3a60c0"),
    "green": tint("3e8f56"),
    "yellow": tint("eec443"),
    "white": tint("eeece8"),
    "black": tint("34343c"),
}
TURN = {"left": -1, "front": 0, "right": 1}
DARK, LIP, WHITE = tint("24201f"), tint("b04a4c"), tint("fbfaf6")


@dataclass(frozen=True)
class Head:
    """Where the head is: its middle, and by how much the face is turned, px."""

    x: float
    y: float
    turn: float


def draw_portrait(canvas: LitCanvas, it: Scene) -> None:
    draw_wall(canvas, it["wall"])
    turn = TURN[it["pose"]]
    head = Head(canvas.width / 2 + 4 * turn, canvas.height - 52.0, 3.0 * turn)
    skin, hair = np.asarray(SKIN[it["skin"]], np.float32), np.asarray(HAIR[it["hair"]], np.float32)
    canvas.shade(canvas.ellipse(head.x - 12 * canvas.side, head.y + 6, 26, 32), 9, 0.22)
    draw_hair_behind(canvas, head, it["style"], hair)
    draw_clothes(canvas, head, it, skin)
    draw_face(canvas, head, skin)
    draw_eyes(canvas, head, it["glasses"], hair, it["mood"])
    draw_mouth(canvas, head, it["mood"], skin)
    draw_hair_before(canvas, head, it["style"], hair)
    if it["hat"] != NONE:
        HATS[it["hat"]](canvas, head, CLOTH[it["hat_colour"]])


def draw_hair_behind(canvas: LitCanvas, head: Head, style: str, hair: Colour) -> None:
    x, y = head.x, head.y
    light = canvas.ball(x, y, 30, 34)
    if style == "long":
        canvas.paint(canvas.box(x - 23, y - 22, x + 23, y + 37, 18), hair, light * 0.92, edge=2)
    if style == "curly":
        for dx, dy in ((-18, -10), (18, -10), (-21, 4), (21, 4), (-10, -22), (10, -22), (0, -25)):
            canvas.paint(canvas.ellipse(x + dx, y + dy, 10, 10), hair, canvas.ball(x + dx, y + dy, 11, 11), edge=2)
    if style == "tied":
        canvas.paint(canvas.ellipse(x, y - 28, 8.5, 8), hair, canvas.ball(x, y - 28, 9, 9))


def draw_clothes(canvas: LitCanvas, head: Head, it: Scene, skin: Colour) -> None:
    x, y, bottom = head.x, head.y, float(canvas.height)
    cloth = np.asarray(CLOTH[it["clothes"]], np.float32)
    shoulders = canvas.box(x - 33, y + 31, x + 33, bottom + 30, 17)
    folds = 1 + 0.05 * np.sin((canvas.x - x) / 4.5)
    light = canvas.pillar(x, 42) * folds
    if it["garment"] == "jumper":
        light = light * (1 - 0.26 * (np.sin((canvas.y - y) * np.pi / 4) > 0.2))
    canvas.paint(shoulders, cloth, light, edge=2)
    canvas.paint(canvas.box(x - 7.5, y + 14, x + 7.5, y + 37, 7), skin, 0.74 * canvas.pillar(x, 9) + 0.1)
    if it["garment"] == "shirt":
        for side in (-1, 1):
            points = ((x, y + 40), (x + 12 * side, y + 29), (x + 13 * side, y + 38))
            canvas.paint(canvas.convex(*(points if side > 0 else points[::-1])), cloth, 1.12 * canvas.pillar(x, 40))
    if it["garment"] == "coat":
        for side in (-1, 1):
            canvas.paint(
                canvas.stroke(x + 13 * side, y + 29, x + 2 * side, y + 52, 7.5),
                cloth,
                0.78 * canvas.pillar(x, 30) + 0.06,
            )


def draw_face(canvas: LitCanvas, head: Head, skin: Colour) -> None:
    x, y = head.x, head.y
    for side in (-1, 1):
        canvas.paint(canvas.ellipse(x + 18 * side, y + 2, 3.4, 5), skin, 0.9 * canvas.ball(x, y, 22, 30))
    canvas.paint(canvas.ellipse(x, y, 18.5, 23), skin, canvas.ball(x, y - 2, 23, 32), edge=2)
    cheek = 0.32
    for side in (-1, 1):
        reach = ((canvas.x - x - head.turn - 10 * side) ** 2 + (canvas.y - y - 7) ** 2) / 22
        blush = cheek * np.exp(-reach)
        canvas.paint(canvas.ellipse(x, y, 18.5, 23), mixed_blush(skin), alpha=blush)
    nose = x + 1.3 * head.turn
    canvas.paint(canvas.ellipse(nose, y + 4.5, 2.8, 3.4), skin, 1.04 * canvas.ball(nose, y + 4, 4, 5), edge=2.5)


def mixed_blush(skin: Colour) -> Colour:
    return np.asarray(skin, np.float32) * np.asarray((1.0, 0.72, 0.68), np.float32)


def draw_eyes(canvas: LitCanvas, head: Head, glasses: str, hair: Colour, mood: str) -> None:
    y = head.y - 3
    lift = {"gasping": -3.0, "frowning": 0.5}.get(mood, -1.0)
    for side in (-1, 1):
        x = head.x + head.turn + 7.6 * side
        if glasses == "dark":
            canvas.paint(canvas.box(x - 6.4, y - 4.6, x + 6.4, y + 4.4, 3.5), DARK)
            canvas.paint(canvas.ellipse(x + 2 * canvas.side, y - 1.8, 2.2, 1.4), tint("8898b8"), alpha=0.8)
            continue
        canvas.paint(canvas.ellipse(x, y, 3.9, 3.2), WHITE)
        canvas.paint(canvas.ellipse(x + 0.25 * head.turn, y + 0.2, 2.1, 2.3), DARK)
        canvas.glow(x + 0.8 * canvas.side, y - 0.9, 1.0, tint("ffffff"), 0.5)
        inner = 1.6 if mood == "frowning" else -0.4
        brow = (x - 4.2 * side, y - 6.2 + lift + inner, x + 4.2 * side, y - 6.4 + lift - inner * 0.5)
        canvas.paint(canvas.stroke(*brow, 2.2), np.asarray(hair, np.float32) * 0.8, alpha=0.9)
        if glasses == "round":
            ring = np.abs(canvas.ellipse(x, y, 6.1, 5.7)) - 1.0
            canvas.paint(ring, DARK)
    if glasses != NONE:
        middle = head.x + head.turn
        canvas.paint(canvas.stroke(middle - 2.4, y - 1, middle + 2.4, y - 1, 1.8), DARK)


def draw_mouth(canvas: LitCanvas, head: Head, mood: str, skin: Colour) -> None:
    x, y = head.x + head.turn, head.y + 13
    lip = np.asarray(skin, np.float32) * 0.35 + np.asarray(LIP, np.float32) * 0.65
    if mood == "gasping":
        canvas.paint(canvas.ellipse(x, y + 0.8, 4, 5), tint("5e1a22"))
        canvas.paint(np.abs(canvas.ellipse(x, y + 0.8, 4.6, 5.6)) - 0.8, lip)
        return
    if mood == "calm":
        canvas.paint(canvas.stroke(x - 4.6, y, x + 4.6, y, 2.4), lip)
        return
    bend = 1 if mood == "smiling" else -1
    disc = canvas.ellipse(x, y - 3.5 * bend, 8, 6.5)
    bite = canvas.ellipse(x, y - 7.5 * bend, 9.5, 7.6)
    canvas.paint(np.maximum(disc, -bite), WHITE if mood == "smiling" else lip)
    if mood == "smiling":
        canvas.paint(np.maximum(np.abs(disc) - 1.0, -bite), lip)


def draw_hair_before(canvas: LitCanvas, head: Head, style: str, hair: Colour) -> None:
    """The top of the head, above a line over the forehead."""
    x, y = head.x, head.y
    light = canvas.ball(x, y - 12, 24, 24, shine=0.12)
    cap = canvas.ellipse(x, y - 2, 20, 24)
    parting = y - 11 - 3.2 * np.cos((canvas.x - x - head.turn) / 6.5)
    canvas.paint(np.maximum(cap, canvas.above(parting)), hair, light, edge=2)
    if style == "spiky":
        for k in range(5):
            at = x + 8.2 * (k - 2)
            canvas.paint(canvas.convex((at - 6, y - 17), (at + 1.8 * (k - 2), y - 34), (at + 6, y - 17)), hair, light)
    if style == "long":
        for side in (-1, 1):
            canvas.paint(canvas.stroke(x + 19 * side, y - 8, x + 20.5 * side, y + 27, 6.5), hair, light * 0.95, edge=2)


def draw_cap(canvas: LitCanvas, head: Head, colour: Colour) -> None:
    x, y = head.x, head.y
    dome = np.maximum(canvas.ellipse(x, y - 10, 21, 18), canvas.above(y - 11))
    canvas.paint(dome, colour, canvas.ball(x, y - 12, 24, 22, shine=0.08))
    peak = x + (6 * np.sign(head.turn) if head.turn else 0)
    canvas.paint(canvas.box(peak - 19, y - 14, peak + 19, y - 9, 2.5), colour, 0.78 * canvas.pillar(x, 24) + 0.05)


def draw_beanie(canvas: LitCanvas, head: Head, colour: Colour) -> None:
    x, y = head.x, head.y
    knit = 1 - 0.12 * (np.sin((canvas.x - x) * np.pi / 3) > 0)
    canvas.paint(canvas.ellipse(x, y - 34, 5, 5), WHITE, canvas.ball(x, y - 34, 5, 5))
    dome = np.maximum(canvas.ellipse(x, y - 10, 20.5, 22), canvas.above(y - 14))
    canvas.paint(dome, colour, canvas.ball(x, y - 14, 24, 24) * knit)
    canvas.paint(canvas.box(x - 21, y - 18, x + 21, y - 10, 3.5), colour, 1.12 * canvas.pillar(x, 24) * knit)


def draw_sunhat(canvas: LitCanvas, head: Head, colour: Colour) -> None:
    x, y = head.x, head.y
    canvas.shade(canvas.ellipse(x, y - 9, 20, 5), 4, 0.3)
    canvas.paint(canvas.ellipse(x, y - 14, 33, 6.5), colour, 0.92 * canvas.pillar(x, 40) + 0.04)
    crown = np.maximum(canvas.ellipse(x, y - 18, 17, 17), canvas.above(y - 15))
    canvas.paint(crown, colour, canvas.ball(x, y - 20, 21, 20))
    canvas.paint(
        np.maximum(canvas.ellipse(x, y - 18, 17.5, 18), np.abs(canvas.y - y + 18) - 2.5), DARK, canvas.pillar(x, 20)
    )


HATS = {"cap": draw_cap, "beanie": draw_beanie, "sunhat": draw_sunhat}
