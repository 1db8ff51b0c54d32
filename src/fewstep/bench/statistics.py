"""Means, ratios and distances with their uncertainty. numpy only: scipy takes longer to import than all of this to
compute. Every draw is seeded.

Several records of one case (its seeds, its attributes) are not independent, so intervals resample whole cases (the
cluster bootstrap; Davison and Hinkley 1997). Two systems judged on the same cases and seeds are compared pair by pair.
One resampling serves both, so the effect of a hard case on both of them cancels. Averages of category means are in
`resampling.py`.

Resampling knows only what it was shown: of clusters that all agree it would make an interval of width 0. Then there is
no interval or, for shares, the one of `unanimous`. Of fewer than about six clusters it makes one that is too narrow, so
conclusions want more (`comparison.LEAST_CASES`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewstep.bench.student_t import normal_tail, t_quantile

Floats = NDArray[np.float64]
RESAMPLES = 2000
LEVEL = 0.95
ROUNDING = 1e-12  # resampled values that differ by less, relatively, are equal
Bounds = tuple[float, float]  # the ends of a scale
SHARE: Bounds = (0.0, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; n records in this many clusters. low and high are None if there can be no interval:
    fewer than two clusters, clusters without any spread, or a ratio whose denominator is 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean(
    values: ArrayLike, clusters: Sequence[object] | None = None, seed: int = 0, bounds: Bounds | None = None
) -> Estimate:
    """The mean over records, with the percentile interval of the cluster bootstrap. A record with cluster None is a
    cluster of its own. bounds: the ends of the values' scale, `SHARE` for shares; see `unanimous`."""
    x = np.asarray(values, dtype=np.float64)
    sums, counts = _by_cluster(x[None], clusters)
    if not len(x):
        return Estimate(None, None, None, 0, 0)
    drawn = _resampled(np.vstack([sums, counts]), seed)
    return _estimate(float(x.mean()), drawn[0] / drawn[1], len(x), len(counts), bounds)


def paired_ratio(
    top: ArrayLike, bottom: ArrayLike, clusters: Sequence[object] | None = None, seed: int = 0
) -> Estimate:
    """mean(top) / mean(bottom) of paired records: top[i] and bottom[i] are the same case and seed."""
    return _paired(top, bottom, clusters, seed, of_ratio=True)


def paired_difference(
    top: ArrayLike, bottom: ArrayLike, clusters: Sequence[object] | None = None, seed: int = 0
) -> Estimate:
    """mean(top) - mean(bottom) of paired records."""
    return _paired(top, bottom, clusters, seed, of_ratio=False)


def _paired(
    top: ArrayLike, bottom: ArrayLike, clusters: Sequence[object] | None, seed: int, *, of_ratio: bool
) -> Estimate:
    a, b = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    assert a.shape == b.shape, f"paired records come in pairs: {a.shape} and {b.shape}"
    if not len(a):
        return Estimate(None, None, None, 0, 0)
    sums, counts = _by_cluster(np.stack([a, b]), clusters)
    drawn = _resampled(np.vstack([sums, counts]), seed)
    if not of_ratio:
        return _estimate(float(a.mean() - b.mean()), (drawn[0] - drawn[1]) / drawn[2], len(a), len(counts))
    if b.mean() == 0 or (drawn[1] == 0).any():
        value = None if b.mean() == 0 else float(a.mean() / b.mean())
        return Estimate(value, None, None, len(a), len(counts))
    return _estimate(float(a.mean() / b.mean()), drawn[0] / drawn[1], len(a), len(counts))


def _by_cluster(values: Floats, clusters: Sequence[object] | None) -> tuple[Floats, Floats]:
    """Sums per cluster (one row for each row of values) and the number of records in each."""
    n = values.shape[1]
    if clusters is None:
        return values, np.ones(n)
    assert len(clusters) == n, f"{n} records but {len(clusters)} cluster labels"
    order: dict[object, int] = {}
    member: NDArray[np.intp] = np.array([order.setdefault(label, len(order)) for label in clusters], dtype=np.intp)
    sums: Floats = np.stack([np.bincount(member, row, len(order)) for row in values]).astype(np.float64)
    return sums, np.bincount(member, minlength=len(order)).astype(np.float64)


def _resampled(totals: Floats, seed: int) -> Floats:
    """The totals of RESAMPLES sets of clusters, each drawn with replacement: one column a set."""
    clusters = totals.shape[1]
    drawn = np.random.default_rng(seed).integers(clusters, size=(RESAMPLES, clusters))
    return np.stack([row[drawn].sum(axis=1) for row in totals])


def _estimate(value: float, drawn: Floats, n: int, clusters: int, bounds: Bounds | None = None) -> Estimate:
    if clusters < 2:
        return Estimate(value, None, None, n, clusters)
    if without_spread(drawn):
        low, high = unanimous(value, clusters, bounds)
        return Estimate(value, low, high, n, clusters)
    bottom, top = np.quantile(drawn, tails(clusters))
    return Estimate(value, float(bottom), float(top), n, clusters)


def without_spread(drawn: Floats) -> bool:
    """Whether resampling cannot change the value: every cluster says the same."""
    return bool(np.ptp(drawn) <= ROUNDING * max(1.0, float(np.abs(drawn).max())))


def unanimous(value: float, clusters: int, bounds: Bounds | None) -> tuple[float, float] | tuple[None, None]:
    """The interval of a mean where all n clusters say the same: the share 1 - 0.025^(1/n) of all cases, about 3.7 / n,
    may say otherwise although none of n did, and lie at an end of the scale. For a share of 0 or 1 this is the interval
    of Clopper and Pearson (1934). Nothing is known of a scale without ends."""
    if bounds is None:
        return None, None
    otherwise = 1 - ((1 - LEVEL) / 2) ** (1 / clusters)
    return float(value - otherwise * (value - bounds[0])), float(value + otherwise * (bounds[1] - value))


def tails(clusters: int) -> tuple[float, float]:
    """The two quantiles of the resampled values that bound the interval.

    Plain percentiles (Efron 1979) are too narrow if clusters are few: resampling underestimates the variance by (n - 1)
    / n and treats it as known. Expanded percentiles (Hesterberg 2015, "What Teachers Should Know About the Bootstrap")
    correct both: the tail is Phi(-t sqrt(n / (n - 1))).
    """
    tail = normal_tail(t_quantile(clusters - 1, LEVEL) * np.sqrt(clusters / (clusters - 1)))
    return tail, 1 - tail


def frechet(features: ArrayLike, others: ArrayLike) -> float:
    """The Frechet distance of two sets of features, one row a picture: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the
    squared distance between normal distributions (Dowson and Landau 1982; Heusel et al. 2017 for pictures).

    The estimate is biased upwards, and the bias falls with n. So compare only values of one n, and with the floor that
    two sets of real pictures of that n give. tr (S1 S2)^(1/2) is the sum of the singular values of S1^(1/2) S2^(1/2),
    so nothing complex appears if a covariance is singular.
    """
    a, b = np.asarray(features, dtype=np.float64), np.asarray(others, dtype=np.float64)
    assert a.ndim == b.ndim == 2, "features are rows of a matrix"
    assert a.shape[1] == b.shape[1], f"features of {a.shape[1]} and of {b.shape[1]} numbers"
    assert min(len(a), len(b)) > 1, "a covariance needs two pictures at least"
    root_a, root_b = _root(np.cov(a, rowvar=False)), _root(np.cov(b, rowvar=False))
    apart = float(np.sum((a.mean(0) - b.mean(0)) ** 2))
    common = float(np.linalg.svd(root_a @ root_b, compute_uv=False).sum())
    return max(0.0, apart + float((root_a**2).sum() + (root_b**2).sum()) - 2 * common)


def _root(covariance: ArrayLike) -> Floats:
    """The symmetric square root of a covariance; rounding below zero is zero."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.asarray(covariance, dtype=np.float64)))
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def spread(features: ArrayLike) -> float:
    """The mean distance between two of these pictures (rows of features); 0 if all seeds give one picture."""
    x = np.asarray(features, dtype=np.float64)
    assert len(x) > 1, "a spread needs two pictures at least"
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return float(distances.sum() / (len(x) * (len(x) - 1)))
