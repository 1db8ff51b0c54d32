"""Degradations of known order: the calibration set of how well a picture is drawn.

Each kind has levels from mild to severe. A score that is right about drawing falls from level to level.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from fewstep.pocket.harder.exact_answers import RGBArray

Degrade = Callable[[RGBArray, tuple[RGBArray, ...], float], RGBArray]
TILE = 16


def blurred(exact: RGBArray, others: tuple[RGBArray, ...], sigma: float) -> RGBArray:
    return np.asarray(Image.fromarray(exact).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(exact: RGBArray, others: tuple[RGBArray, ...], levels: float) -> RGBArray:
    rng = np.random.default_rng(exact.size)
    return clipped(exact + rng.normal(0, levels, exact.shape))


def blended(exact: RGBArray, others: tuple[RGBArray, ...], share: float) -> RGBArray:
    """With another exact answer of the same prompt."""
    return clipped((1 - share) * exact.astype(np.float64) + share * others[0])


def tiled(exact: RGBArray, others: tuple[RGBArray, ...], levels: float) -> RGBArray:
    """Each latent tile a little brighter or darker than its neighbours."""
    rows, columns = exact.shape[0] // TILE, exact.shape[1] // TILE
    offsets = np.random.default_rng(rows * columns).choice([-levels, levels], (rows, columns, 1))
    return clipped(exact + np.kron(offsets[..., 0], np.ones((TILE, TILE)))[..., None])


def saturated(exact: RGBArray, others: tuple[RGBArray, ...], gain: float) -> RGBArray:
    """Contrast around the middle grey, as guidance that is too strong adds it."""
    return clipped(127.5 + gain * (exact.astype(np.float64) - 127.5))


def clipped(values: np.ndarray) -> RGBArray:
    return np.clip(values.round(), 0, 255).astype(np.uint8)


DEGRADATIONS: dict[str, tuple[Degrade, tuple[float, ...]]] = {
    "blur": (blurred, (0.5, 1.0, 2.0)),
    "noise": (noisy, (2.0, 5.0, 12.0)),
    "blend": (blended, (0.1, 0.25, 0.45)),
    "tiles": (tiled, (2.0, 5.0, 10.0)),
    "saturation": (saturated, (1.15, 1.4, 1.8)),
}


def ladder(name: str, exact: RGBArray, others: tuple[RGBArray, ...]) -> list[RGBArray]:
    """The exact picture, then its degradations from mild to severe."""
    degrade, levels = DEGRADATIONS[name]
    return [exact, *(degrade(exact, others, level) for level in levels)]
