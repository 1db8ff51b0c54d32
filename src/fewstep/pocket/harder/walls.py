"""Walls behind portraits, signs and still lives; and grains of materials."""

from __future__ import annotations

import numpy as np

from fewstep.pocket.harder.brush import Field, LitCanvas, tint

WALL = {
    "blue": tint("6c95e0"),
    "teal": tint("54b8b4"),
    "green": tint("86b878"),
    "pink": tint("eea6bc"),
    "orange": tint("f0a860"),
    "purple": tint("9a78c4"),
    "grey": tint("a2a6ac"),
    "brick": tint("b4604a"),
}


def draw_wall(canvas: LitCanvas, name: str) -> None:
    light = canvas.falloff(0.42)
    if name == "brick":
        light = light * bricks(canvas)
    canvas.fill(WALL[name], light)


def bricks(canvas: LitCanvas) -> Field:
    """Courses of 8 px, bricks of 16: joints lie on the tile grid."""
    course = np.floor(canvas.y / 8)
    across = (canvas.x + 8 * (course % 2)) % 16
    joint = np.minimum(np.minimum(across, 16 - across), np.minimum(canvas.y % 8, 8 - canvas.y % 8))
    tone = 1 + 0.05 * np.sin(course * 2.1 + np.floor((canvas.x + 8 * (course % 2)) / 16) * 1.7)
    return (tone * (1.22 - 0.26 * np.clip(joint / 1.6, 0, 1))).astype(np.float32)


def wood(canvas: LitCanvas, across: Field, along: Field) -> Field:
    """Long fibres along one axis, boards of 16 px across the other."""
    fibre = 0.09 * np.sin(across * 1.15 + 1.4 * np.sin(along / 13)) + 0.06 * np.sin(across * 0.42 + along / 29)
    joint = np.minimum(across % 16, 16 - across % 16)
    return (1.02 + fibre - 0.3 * np.clip(1 - joint / 1.6, 0, 1)).astype(np.float32)


def metal(canvas: LitCanvas) -> Field:
    """Sheen in slanted bands."""
    slant = (canvas.x * canvas.side + canvas.y * 0.6) / 30
    return (0.95 + 0.24 * np.sin(slant * 2.2) + 0.3 * np.exp(-(((slant % 2.6) - 1.1) ** 2) / 0.03)).astype(np.float32)


def plaster(canvas: LitCanvas) -> Field:
    blots = np.sin(canvas.x / 5.3 + 2 * np.sin(canvas.y / 7.1)) * np.sin(canvas.y / 4.7 + np.sin(canvas.x / 9.3))
    return (0.97 + 0.06 * blots).astype(np.float32)
