"""A brush for soft, shaded pictures: shapes as signed distances, light as fields, all in floats at final size.

Coordinates are px, x to the right and y down. A shape is the signed distance (H, W) to its edge, below 0 inside; `edge`
px of softness make it a mask. Nothing is thinner than two px, so that a latent tile of 16 x 16 px holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]  # (H, W)
Colour = tuple[float, float, float] | Field  # 0..255; or a field (H, W, 3)
EDGE = 1.5  # px over which a shape fades into what is behind it
AMBIENT = 0.62  # brightness of what is turned away from the light


def tint(text: str) -> tuple[float, float, float]:
    """'d82828' -> its three numbers."""
    red, green, blue = bytes.fromhex(text)
    return float(red), float(green), float(blue)


def mixed(one: Colour, two: Colour, share: float | Field) -> Field:
    """`share` of the second colour; a field gives a picture (H, W, 3)."""
    weight = np.asarray(share, np.float32)[..., None]
    return ((1 - weight) * np.asarray(one, np.float32) + weight * np.asarray(two, np.float32)).astype(np.float32)


Window = tuple[slice, slice]


def occupied(mask: Field) -> Window | None:
    """The rows and columns that a mask touches. Most shapes are small, and blending three colours is what costs."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return None if not len(rows) else (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


def part(value: Colour | Field | float, here: Window) -> Field:
    """A field within the window; what is the same everywhere stays as it is."""
    whole = np.asarray(value, np.float32)
    return whole[here] if whole.ndim >= 2 else whole


@dataclass
class LitCanvas:
    """A picture in the making. `side` is -1 where light comes from the left, 1 from the right."""

    width: int
    height: int
    side: int
    pixels: Field = field(init=False)
    x: Field = field(init=False)
    y: Field = field(init=False)

    def __post_init__(self) -> None:
        self.y, self.x = np.mgrid[0.5 : self.height, 0.5 : self.width].astype(np.float32)
        self.pixels = np.zeros((self.height, self.width, 3), np.float32)

    # Shapes: signed distance in px.
    def ellipse(self, x: float, y: float, rx: float, ry: float) -> Field:
        u, v = (self.x - x) / rx, (self.y - y) / ry
        length = np.sqrt(u * u + v * v)
        slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)  # of `length` in px, so that the edge is as soft all round
        return (length - 1) * (length + 1e-6) / (slope + 1e-6 / min(rx, ry))

    def box(self, x0: float, y0: float, x1: float, y1: float, radius: float = 0) -> Field:
        u = np.abs(self.x - (x0 + x1) / 2) - (x1 - x0) / 2 + radius
        v = np.abs(self.y - (y0 + y1) / 2) - (y1 - y0) / 2 + radius
        outside = np.hypot(np.maximum(u, 0), np.maximum(v, 0))
        return outside + np.minimum(np.maximum(u, v), 0) - radius

    def convex(self, *points: tuple[float, float]) -> Field:
        """The polygon of these corners, which turn clockwise on the screen."""
        plane, nearest = np.full_like(self.x, -1e6), np.full_like(self.x, 1e6)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
            length = float(np.hypot(bx - ax, by - ay))
            plane = np.maximum(plane, ((self.x - ax) * (by - ay) - (self.y - ay) * (bx - ax)) / length)
            nearest = np.minimum(nearest, self.stroke(ax, ay, bx, by, 0))
        return np.where(plane > 0, nearest, plane)

    def stroke(self, ax: float, ay: float, bx: float, by: float, thick: float) -> Field:
        """A line with round ends."""
        dx, dy = bx - ax, by - ay
        along = ((self.x - ax) * dx + (self.y - ay) * dy) / (dx * dx + dy * dy)
        along = np.clip(along, 0, 1)
        return np.hypot(self.x - ax - along * dx, self.y - ay - along * dy) - thick / 2

    def above(self, line: Field | float) -> Field:
        """What lies above y = line."""
        return self.y - line

    def below(self, line: Field | float) -> Field:
        return line - self.y

    # Light: factors around 1.
    def ball(self, x: float, y: float, rx: float, ry: float, shine: float = 0.0) -> Field:
        """How a ball that fills this ellipse is lit; `shine` adds a highlight."""
        u, v = np.clip((self.x - x) / rx, -1, 1), np.clip((self.y - y) / ry, -1, 1)
        depth = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        lit = 0.55 * self.side * u - 0.6 * v + 0.58 * depth
        spot = np.exp(-((u - 0.38 * self.side) ** 2 + (v + 0.42) ** 2) / 0.05)
        return (AMBIENT + 0.5 * np.clip(lit, 0, 1) + shine * spot).astype(np.float32)

    def pillar(self, x: float, radius: float, shine: float = 0.0) -> Field:
        """How an upright round thing is lit."""
        u = np.clip((self.x - x) / radius, -1, 1)
        lit = 0.6 * self.side * u + 0.75 * np.sqrt(1 - u * u)
        spot = np.exp(-((u - 0.45 * self.side) ** 2) / 0.02)
        return (AMBIENT + 0.45 * np.clip(lit, 0, 1) + shine * spot).astype(np.float32)

    def falloff(self, strength: float) -> Field:
        """A wall that is brighter where the light comes from."""
        across = (self.x / self.width - 0.5) * self.side
        down = self.y / self.height - 0.5
        return (1 + strength * (across - 0.35 * down)).astype(np.float32)

    # Paint.
    def fill(self, colour: Colour, light: Field | float = 1.0) -> None:
        self.pixels[:] = np.asarray(colour, np.float32) * np.asarray(light, np.float32)[..., None]

    def paint(
        self, shape: Field, colour: Colour, light: Field | float = 1.0, alpha: float | Field = 1.0, edge: float = EDGE
    ) -> None:
        mask = np.clip(0.5 - shape / edge, 0, 1) * alpha
        here = occupied(mask)
        if here is None:
            return
        under = self.pixels[here]
        over = part(colour, here) * part(light, here)[..., None]
        under += mask[here][..., None] * (over - under)

    def shade(self, shape: Field, reach: float, strength: float) -> None:
        """Darkens inside the shape and fades over `reach` px outside of it: a soft shadow."""
        mask = strength * np.exp(-np.square(np.clip(shape, 0, None) / reach))
        self.pixels *= (1 - mask)[..., None]

    def glow(self, x: float, y: float, reach: float, colour: Colour, strength: float) -> None:
        far = ((self.x - x) ** 2 + (self.y - y) ** 2) / reach**2
        self.pixels += (strength * np.exp(-far))[..., None] * np.asarray(colour, np.float32)

    def picture(self) -> Image.Image:
        return Image.fromarray(np.clip(self.pixels + 0.5, 0, 255).astype(np.uint8))
