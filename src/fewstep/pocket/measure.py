"""Measurements on pictures that need no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from fewstep.pocket.render import SIZE, render
from fewstep.pocket.world import Scene

WINDOW = 5  # px; a flat area's residual is the picture minus its local mean
FLAT = 0.6  # 8-bit levels: an area is flat if a render's residual is below this all over the window


def pixels_of(images: Sequence[Image.Image]) -> np.ndarray:
    """(n, 64, 64, 3) uint8; alpha is dropped, other sizes are resampled."""
    ready = [image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE)) for image in images]
    return np.stack([np.asarray(image.convert("RGB")) for image in ready])


def psnr_8bit(a: np.ndarray, b: np.ndarray) -> float:
    """10 log10(255^2 / MSE) in dB between 8-bit arrays; 60 at most, so that means stay meaningful."""
    gap = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return min(60.0, float(10 * np.log10(255.0**2 / max(gap, 1e-9))))


def residual(picture: np.ndarray) -> np.ndarray:
    """The picture minus its local mean, zero on any linear gradient: (H, W, 3) in 8-bit levels."""
    values = picture.astype(np.float64)
    return values - ndimage.uniform_filter(values, size=(WINDOW, WINDOW, 1), mode="nearest")


@lru_cache(maxsize=4096)
def flat_mask(scene: Scene) -> np.ndarray:
    """Pixels that are flat for every light and pose that a seed may choose, without the borders of the picture."""
    flat = np.ones((SIZE, SIZE), bool)
    for light in (0, 1):
        for pose in (0, 1):
            rough = np.abs(residual(np.asarray(render(replace(scene, light=light, pose=pose))))).max(-1) > FLAT
            flat &= ~ndimage.binary_dilation(rough, iterations=2)
    flat[:2] = flat[-2:] = flat[:, :2] = flat[:, -2:] = False
    return flat


def flat_noise_rms(picture: np.ndarray, flat: np.ndarray) -> float | None:
    """RMS residual on flat areas, in 8-bit levels; None if fewer than 100 pixels are flat."""
    return float(np.sqrt((residual(picture)[flat] ** 2).mean())) if flat.sum() >= 100 else None
