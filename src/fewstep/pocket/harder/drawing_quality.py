"""How well a picture is drawn, whatever was asked: the second half of the harder world's score.

Five shares in [0, 1], each 1 for an exact picture. `nearness`: dB to the nearest exact answer, over a declared range.
`calm`: noise on what is flat in that answer. `unity`: how much nearer to one answer than to a blend of two. `grid`:
jumps across the borders of latent tiles that are larger than those inside of them. `edges`: contrast at the answer's
edges. A half-score is their mean. Nobody reaches 1: what the autoencoder makes of exact pictures is the ceiling, which
is reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from fewstep.pocket.harder.exact_answers import RGBArray
from fewstep.pocket.measure import psnr_8bit, residual

Pixels = NDArray[np.float64]
NEAR_DB = (18.0, 36.0)  # ours: dB at which nearness is 0 and 1
NOISE_LEVELS = 6.0  # ours: RMS residual on flat areas, in 8-bit levels, at which calm is 0
JUMP_LEVELS = 4.0  # ours: excess of the jump across tile borders at which grid is 0
FLAT, EDGE = 0.6, 10.0  # 8-bit levels: residual below which an answer is flat; gradient above which it has an edge
FEWEST = 40  # pixels without which a share does not apply
TILE = 16


def drawing_shares(picture: RGBArray, answers: Sequence[RGBArray]) -> dict[str, float]:
    """The shares that apply to a picture (H, W, 3), given the exact answers of its prompt.

    Raises:
        ValueError: there is no answer, or one of another size.
    """
    if not answers or any(answer.shape != picture.shape for answer in answers):
        raise ValueError(f"a picture of {picture.shape} needs exact answers of its own size")
    order = sorted(answers, key=lambda answer: -psnr_8bit(picture, answer))
    seen, nearest = picture.astype(np.float64), order[0].astype(np.float64)
    low, high = NEAR_DB
    shares: dict[str, float | None] = {
        "nearness": (psnr_8bit(picture, order[0]) - low) / (high - low),
        "calm": calm(seen, nearest),
        "unity": unity(seen, nearest, [other.astype(np.float64) for other in order[1:]]),
        "grid": 1 - excess_jump(seen, nearest) / JUMP_LEVELS,
        "edges": sharpness(seen, nearest),
    }
    return {name: min(1.0, max(0.0, share)) for name, share in shares.items() if share is not None}


def half_score(picture: RGBArray, answers: Sequence[RGBArray]) -> float:
    """The mean of the shares that apply."""
    return fmean(drawing_shares(picture, answers).values())


def calm(seen: Pixels, nearest: Pixels) -> float | None:
    flat = np.abs(residual(nearest)).max(-1) < FLAT
    if flat.sum() < FEWEST:
        return None
    return 1 - float(np.sqrt((residual(seen)[flat] ** 2).mean())) / NOISE_LEVELS


def unity(seen: Pixels, nearest: Pixels, others: Sequence[Pixels]) -> float | None:
    """1 - twice the largest weight of another answer in the best blend with the nearest one, at most half and half."""
    weights = []
    for other in others:
        way = other - nearest
        weights.append(float(np.sum((seen - nearest) * way) / np.sum(way * way)))
    return 1 - 2 * min(0.5, max(0.0, *weights)) if weights else None


def excess_jump(seen: Pixels, nearest: Pixels) -> float:
    """By how much the error jumps more across tile borders than between other neighbours, 8-bit levels."""
    error = seen - nearest
    return max(0.0, fmean(_across(error, axis) for axis in (0, 1)))


def _across(error: Pixels, axis: int) -> float:
    jumps = np.abs(np.diff(error, axis=axis)).mean(axis=(1 - axis, 2))
    border = np.arange(1, len(jumps) + 1) % TILE == 0
    return float(jumps[border].mean() - jumps[~border].mean())


def sharpness(seen: Pixels, nearest: Pixels) -> float | None:
    """Contrast of the picture along the answer's edges, as a share of the answer's own."""
    wanted, found = gradient(nearest), gradient(seen)
    length = np.sqrt((wanted**2).sum(-1))
    edge = length > EDGE
    if edge.sum() < FEWEST:
        return None
    return float((wanted[edge] * found[edge]).sum() / (wanted[edge] ** 2).sum())


def gradient(pixels: Pixels) -> Pixels:
    """(H, W, 2) of the brightness."""
    return np.stack(np.gradient(pixels.mean(-1)), axis=-1)
