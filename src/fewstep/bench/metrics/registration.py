"""How far a picture is shifted and zoomed against its source, to a small fraction of a pixel, over the pixels that
count.

Coarse: phase correlation (Kuglin and Hines 1975). Both pictures are centred on their mean and faded out towards the
border and around what does not count: a hole cut to zero would be an edge of its own, and would correlate with itself
at shift zero. Fine: Gauss-Newton on the pixels themselves (Lucas and Kanade 1981), for which any mask is exact.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are imported when they are first used
from numpy.typing import NDArray

_Plane = NDArray[np.float64]

FADE = 8.0  # px over which weights rise from 0 to 1
COARSEST, FINEST = 256, 640  # px; largest longer side of the pictures in the coarse and the fine step
ROUNDS = 12
LEAST_STRUCTURE = 0.5  # mean squared slope, in levels a px, along each axis
FURTHEST = 0.25  # of a side; beyond it, it is not the same place any more


@dataclass(frozen=True)
class Registration:
    """The picture's content lies (right, down) px from the source's, and is larger by zoom. correlation: of the two
    once aligned, over the pixels that count."""

    right: float
    down: float
    zoom: float
    correlation: float

    @property
    def shift(self) -> float:
        return float(np.hypot(self.right, self.down))


def register(picture: _Plane, source: _Plane, keep: NDArray[np.bool_]) -> Registration | None:
    """The registration of two grey pictures of one size. None if there is too little structure under `keep`."""
    step = -(-max(picture.shape) // FINEST)
    small = [scipy.ndimage.gaussian_filter(_thinned(x, step), 1.0) for x in (picture, source)]
    counts = keep[step // 2 :: step, step // 2 :: step]
    rows, columns = np.gradient(small[1])
    if not counts.any() or min(np.square(rows[counts]).mean(), np.square(columns[counts]).mean()) < LEAST_STRUCTURE:
        return None
    best: Registration | None = None
    for start in ((0.0, 0.0), _coarse(small[0], small[1], counts)):
        found = _fine(small[0], small[1], counts, start)
        if found is not None and (best is None or found.correlation > best.correlation):
            best = found
    return best and replace(best, right=best.right * step, down=best.down * step)


def _thinned(x: _Plane, step: int) -> _Plane:
    return x if step == 1 else scipy.ndimage.uniform_filter(x, step)[step // 2 :: step, step // 2 :: step]


def _coarse(picture: _Plane, source: _Plane, keep: NDArray[np.bool_]) -> tuple[float, float]:
    """(down, right) in px by the peak of the phase correlation, on pictures of COARSEST px at most."""
    step = max(1, -(-max(picture.shape) // COARSEST))
    small = [_thinned(x, step) for x in (picture, source)]
    weight = _faded(keep[step // 2 :: step, step // 2 :: step])
    spectra = [scipy.fft.rfft2(_weighted(x, weight)) for x in small]
    cross = spectra[0] * np.conj(spectra[1])
    peak = scipy.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), weight.shape)
    at = np.unravel_index(int(np.argmax(peak)), peak.shape)
    down, right = (int(i) - n if i > n // 2 else int(i) for i, n in zip(at, peak.shape, strict=True))
    return float(down * step), float(right * step)


def _weighted(x: _Plane, weight: _Plane) -> _Plane:
    return (x - np.average(x, weights=weight + 1e-12)) * weight


def _faded(keep: NDArray[np.bool_]) -> _Plane:
    """1 inside, falling to 0 at the border of the picture and of the pixels that count."""
    distance = scipy.ndimage.distance_transform_edt(np.pad(keep, 1))[1:-1, 1:-1]
    return np.asarray(np.clip(distance / FADE, 0, 1))


def _fine(picture: _Plane, source: _Plane, keep: NDArray[np.bool_], start: tuple[float, float]) -> Registration | None:
    """Least squares in shift, zoom, gain and offset, so a change of light is not taken for a movement."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y0, x0 = (height - 1) / 2, (width - 1) / 2
    down, right, zoom = (*start, 1.0)
    coefficients = scipy.ndimage.spline_filter(source, 3)
    for _ in range(ROUNDS):
        at = [(y - y0 - down) / zoom + y0, (x - x0 - right) / zoom + x0]
        inside = keep & (at[0] >= 1) & (at[0] <= height - 2) & (at[1] >= 1) & (at[1] <= width - 2)
        if inside.sum() < 100:
            return None
        moved = scipy.ndimage.map_coordinates(coefficients, at, order=3, mode="nearest", prefilter=False)
        rows, columns = np.gradient(moved)
        design = np.stack([rows, columns, rows * (y - y0) + columns * (x - x0), moved, np.ones_like(moved)], -1)[inside]
        solved = np.linalg.lstsq(design.T @ design, design.T @ picture[inside], rcond=None)[0]
        gain = solved[3] if abs(solved[3]) > 0.05 else 1.0
        steps = -solved[:3] / gain
        down, right, zoom = down + steps[0], right + steps[1], zoom * (1 + np.clip(steps[2], -0.1, 0.1))
        if max(abs(down) / height, abs(right) / width) > FURTHEST or not 0.5 < zoom < 2:
            return None
        if np.abs(steps[:2]).max() < 1e-3 and abs(steps[2]) < 1e-5:
            break
    correlation = float(np.corrcoef(moved[inside], picture[inside])[0, 1])
    return Registration(float(right), float(down), float(zoom), correlation)
