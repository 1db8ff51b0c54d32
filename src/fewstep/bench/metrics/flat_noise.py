"""Noise left on flat areas, in 8-bit levels: few-step students leave it on white pages, skies and walls.

1. Flat areas: where the picture, smoothed by 2 px, is nearly level or slopes steadily, and the residual around is weak.
   Noise of up to 8 levels passes. Edges, text and texture do not, and neither does their neighbourhood.
2. There, the picture minus its mean at several scales gives the noise, as a whole and by band. Means are taken over
   flat pixels alone, so nothing of an edge leaks in.
3. Near black or white, half of the noise is cut off. The share of clipped pixels around tells how much, and the
   residual is scaled up accordingly.
4. A pattern on the grid of the autoencoder (8 or 16 px) is the part that two interleaved halves of the tiles have in
   common.

Weak texture that fills an area cannot be told from noise by any such measure: compare with the teacher, or use a suite
of flat fields.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy  # its parts are imported when they are first used
from numpy.typing import NDArray

from fewstep.bench.metrics.metric import GalleryPicture, Mask, Metric, Pixels, Skipped, Values, ValueSpec

Plane = NDArray[np.float32]  # (height, width) or (height, width, channels), in 8-bit levels

SMOOTH = 2.0  # px; sigma of the smoothing that decides on flatness
# Levels a px: flat below GRADIENT, an edge above STEEP. Between them an edge, except specks and steady slopes.
GRADIENT, STEEP = 1.0, 4.0
AROUND = 17  # px; the side of the window in which a slope is steady
SPECK = 96  # px; noise of 8 levels makes specks of up to half of this
CONTRAST = 12.0  # levels; a residual above this is texture
MARGIN = 6  # px; distance kept from everything that is not flat: three times SMOOTH
SCALES = (1, 2, 4, 8, 16)  # px; sigma of the means whose differences are the bands
WHOLE = 4  # px; the main values take noise finer than this
REACH = 2  # sigmas; a mean counts only where the border of the flat area is farther away than this
COARSE = 4  # means of 8 and 16 px are made from blocks of this side
FEWEST = 256  # flat px; with fewer there is no value
PERIODS = {8: 4, 16: 8}  # px of the lattice: scale of the mean that is subtracted first
FOLDS = 4  # times that each position of a tile occurs in either half, at least
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
CHROMA = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32)  # BT.601


def measure(shot: GalleryPicture) -> Values | Skipped:
    return shot.pixels if isinstance(shot.pixels, Skipped) else flat_noise(shot.pixels)


def flat_noise(pixels: Pixels) -> Values | Skipped:
    """Root mean squares over flat areas. luma, chroma: all noise finer than 4 px; luma_A_B: the band between means of
    A and B px; lattice_P: the part that repeats every P px; area: the flat share of the picture."""
    if min(pixels.shape[:2]) < 2 * MARGIN:
        return Skipped(f"a side is shorter than {2 * MARGIN} px")
    planes = pixels.astype(np.float32)
    flat = flat_areas(planes)
    if flat.sum() < FEWEST:
        return Skipped(f"fewer than {FEWEST} px are flat")
    inside = _Inside(planes, flat)
    whole = inside.residual(WHOLE)
    if whole is None:
        return Skipped(f"no flat area is wider than {2 * REACH * WHOLE} px")
    return {
        "luma": _rms(whole.luma),
        "chroma": _rms(whole.chroma),
        **inside.bands(),
        **inside.lattices(),
        "area": float(flat.mean()),
    }


# ---- where it is flat


def flat_areas(planes: Plane) -> Mask:
    """Pixels at least MARGIN px from any edge, texture or text."""
    luma = planes @ LUMA
    smooth = scipy.ndimage.gaussian_filter(planes, (SMOOTH, SMOOTH, 0), truncate=3.0)
    slopes = [np.gradient(smooth[..., c]) for c in range(3)]
    uneven = np.any([_uneven(rows, columns) for rows, columns in slopes], axis=0)
    steep = np.any([np.hypot(rows, columns) > STEEP for rows, columns in slopes], axis=0)
    rough = _no_specks(uneven) | steep
    rough |= _contrast(luma - smooth @ LUMA) > CONTRAST
    return _distance(~rough) > MARGIN


def _uneven(rows: Plane, columns: Plane) -> Mask:
    """Where a slope is neither small nor equal to the slope around it. A steady gradient counts as flat."""
    sloping = np.hypot(rows, columns) > GRADIENT
    if not sloping.any():
        return sloping
    apart = [part - scipy.ndimage.uniform_filter(part, AROUND) for part in (rows, columns)]
    return sloping & (np.hypot(*apart) > GRADIENT)


def _no_specks(mask: Mask) -> Mask:
    labels, n = scipy.ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=n + 1)
    keep = sizes >= SPECK
    keep[0] = False
    return keep[labels]


def _contrast(residual: Plane) -> Plane:
    """The local root mean square."""
    return np.sqrt(np.maximum(scipy.ndimage.uniform_filter(residual**2, 9), 0))


def _distance(mask: Mask) -> Plane:
    """px to the nearest pixel outside the mask; the picture's border does not count as outside."""
    if mask.all():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    return scipy.ndimage.distance_transform_edt(mask).astype(np.float32)


# ---- the noise on it


@dataclass(frozen=True)
class _Residual:
    """For the pixels where one scale's mean is valid: luma (n,), chroma (n, 2), and their indices in the flattened
    picture."""

    luma: Plane
    chroma: Plane
    where: NDArray[np.intp]


class _Inside:
    """A picture within its flat areas: means over flat pixels alone, cached for the scales that several figures
    share."""

    def __init__(self, planes: Plane, flat: Mask):
        self.planes, self.flat = planes, flat
        self.distance = _distance(flat).ravel()
        self.stretch = _stretch(planes, flat)
        self._means: dict[int, Plane] = {0: planes}
        self._residuals: dict[int, _Residual | None] = {}

    def residual(self, scale: int) -> _Residual | None:
        """The picture minus its mean at this scale."""
        if scale not in self._residuals:
            self._residuals[scale] = self._between(0, scale)
        return self._residuals[scale]

    def bands(self) -> Values:
        found: Values = {}
        for below, above in zip((0, *SCALES), SCALES, strict=False):
            part = self.residual(above) if below == 0 else self._between(below, above)
            if part is not None:
                found[f"luma_{below}_{above}"] = _rms(part.luma)
                found[f"chroma_{below}_{above}"] = _rms(part.chroma)
        return found

    def lattices(self) -> Values:
        width = self.flat.shape[1]
        found: Values = {}
        for period, scale in PERIODS.items():
            residual = self.residual(scale)
            if residual is not None:
                score = lattice(residual.luma, *np.divmod(residual.where, width), period)
                found |= {} if score is None else {f"lattice_{period}": score}
        return found

    def _between(self, below: int, above: int) -> _Residual | None:
        where = np.flatnonzero(self.distance > REACH * above)
        if len(where) < FEWEST:
            return None
        part: Plane = self._at(self._mean(below), where) - self._at(self._mean(above), where)
        if self.stretch is not None:
            part *= self._at(self.stretch, where)
        return _Residual(np.asarray(part @ LUMA, np.float32), np.asarray(part @ CHROMA.T, np.float32), where)

    def _at(self, planes: Plane, where: NDArray[np.intp]) -> Plane:
        return planes.reshape(-1, planes.shape[-1]).take(where, axis=0)

    def _mean(self, scale: int) -> Plane:
        if scale not in self._means:
            self._means[scale] = _masked_mean(self.planes, self.flat, scale)
        return self._means[scale]


def _masked_mean(planes: Plane, flat: Mask, scale: int) -> Plane:
    """The Gaussian mean over flat pixels (normalised convolution, Knutsson and Westin 1993). Wide means are computed on
    blocks: they hold no fine detail."""
    weight = flat.astype(np.float32)
    if scale > COARSE:
        small = _masked_mean_of(_blocks(planes * weight[..., None]), _blocks(weight), scale / COARSE)
        return _spread(small, weight.shape)
    return _masked_mean_of(planes * weight[..., None], weight, scale)


def _masked_mean_of(weighted: Plane, weight: Plane, sigma: float) -> Plane:
    """Near a border the mean is taken over fewer pixels on one side, and on a slope this shifts it: by the slope times
    the distance to the centre of those pixels. This shift is removed."""
    below = np.maximum(scipy.ndimage.gaussian_filter(weight, sigma, truncate=3.0), 1e-6)
    mean = scipy.ndimage.gaussian_filter(weighted, (sigma, sigma, 0), truncate=3.0) / below[..., None]
    if min(weight.shape) < 2:
        return mean
    for axis in (0, 1):
        place = np.arange(weight.shape[axis], dtype=np.float32)
        place = place[:, None] if axis == 0 else place[None, :]
        offset = scipy.ndimage.gaussian_filter(weight * place, sigma, truncate=3.0) / below - place
        mean = mean - offset[..., None] * np.gradient(mean, axis=axis)
    return mean


def _blocks(planes: Plane) -> Plane:
    """Means of blocks of COARSE px. A picture whose size is no multiple is padded with its edge."""
    pad = [(0, -side % COARSE) for side in planes.shape[:2]] + [(0, 0)] * (planes.ndim - 2)
    padded = np.pad(planes, pad, mode="edge")
    height, width = padded.shape[0] // COARSE, padded.shape[1] // COARSE
    return padded.reshape(height, COARSE, width, COARSE, *planes.shape[2:]).mean(axis=(1, 3))


def _spread(small: Plane, shape: tuple[int, ...]) -> Plane:
    """Blocks back to pixels, linear between their centres."""
    for axis in (0, 1):
        at = (np.arange(shape[axis]) + 0.5) / COARSE - 0.5
        last = small.shape[axis] - 1
        low = np.clip(np.floor(at), 0, max(last - 1, 0)).astype(int)
        share = np.clip(at - low, 0, 1).astype(np.float32)
        share = np.expand_dims(share, tuple(i for i in range(small.ndim) if i != axis))
        small = small.take(low, axis) * (1 - share) + small.take(np.minimum(low + 1, last), axis) * share
    return small


# ---- clipping


def _stretch(planes: Plane, flat: Mask) -> Plane | None:
    """The factor that undoes the shrinking of each channel's noise by clipping at 0 or 255. It follows from the share p
    of clipped pixels around, with the standard deviation of a normal variable that is cut off at its quantile p. None
    if nothing was clipped.

    A share above one half would mean that the noise is centred about a level beyond the limit. Faint noise around the
    limit itself, rounded, gives the same share and is far more common. So at most one half is corrected.
    """
    weight = flat.astype(np.float32)
    clipped = ((planes == 0) | (planes == 255)).astype(np.float32)
    if not clipped[flat].any():
        return None
    share = _spread(_masked_mean_of(_blocks(clipped * weight[..., None]), _blocks(weight), 8 / COARSE), weight.shape)
    return np.interp(share, *_stretches()).astype(np.float32)


def _shrunk(p: NDArray[np.float64]) -> NDArray[np.float64]:
    z = scipy.special.ndtri(p)  # how far the mean lies beyond the limit, in standard deviations
    density, below = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), 1 - p
    mean = z * below - density
    return np.sqrt((z**2 + 1) * below - z * density - mean**2)


@cache
def _stretches() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of clipped pixels, and the factor for each. On first use: scipy.special is slow to import."""
    shares = np.linspace(0, 1, 1001)
    return shares, 1 / _shrunk(np.minimum(shares, 0.5).clip(1e-9))


# ---- the lattice


def lattice(luma: Plane, rows: NDArray[np.intp], columns: NDArray[np.intp], period: int) -> float | None:
    """The root mean square of the part that repeats every `period` px, without the part that already repeats every half
    of it if that is a lattice too. Tiles are dealt to two halves like the squares of a chessboard: noise in the two
    halves is independent, a pattern is the same. None if a half lacks a position of the tile."""
    chessboard = (rows // period + columns // period) % 2
    place = rows % period * period + columns % period
    folded = []
    for half in (0, 1):
        chosen = chessboard == half
        counts = np.bincount(place[chosen], minlength=period**2)
        if counts.min() < FOLDS:
            return None
        mean = (np.bincount(place[chosen], luma[chosen], period**2) / counts).reshape(period, period)
        folded.append(mean - _repeating(mean, period // 2) if period // 2 in PERIODS else mean - mean.mean())
    return float(np.sqrt(max(0.0, float((folded[0] * folded[1]).mean()))))


def _repeating(tile: NDArray[np.float64], period: int) -> NDArray[np.float64]:
    """The part of a tile that repeats at half its side."""
    return np.tile(tile.reshape(2, period, 2, period).mean(axis=(0, 2)), (2, 2))


def _rms(values: Plane) -> float:
    """The root mean square, over channels too."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


_LEVELS = ValueSpec("8-bit levels", "lower")
METRIC = Metric(
    name="flat_noise",
    version="1",
    main="luma",
    values={
        "luma": _LEVELS,
        "chroma": _LEVELS,
        **{
            f"{part}_{a}_{b}": _LEVELS
            for a, b in zip((0, *SCALES), SCALES, strict=False)
            for part in ("luma", "chroma")
        },
        **{f"lattice_{period}": _LEVELS for period in PERIODS},
        "area": ValueSpec("share", None),
    },
    measure=measure,
)
