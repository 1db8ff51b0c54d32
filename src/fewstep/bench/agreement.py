"""Do judges agree? Kendall's tau-b on the order of pictures, Krippendorff's alpha on the scores themselves.

tau-b sees only the order: a judge who is stricter by half a point agrees fully. alpha sees the scores: it is 1 if
judges are equal and 0 if they agree as chance would.

Sources: Kendall, "The treatment of ties in ranking problems" (1945); Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011).
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewstep.bench.resampling import Scores
from fewstep.bench.statistics import Floats

Level = Literal["interval", "ordinal"]
Integers = NDArray[np.int64]


def kendall(a: ArrayLike, b: ArrayLike) -> float | None:
    """tau-b of two judges' scores of the same pictures. None for fewer than two pictures, or if a judge gave all of
    them one score: then there is no order to agree on.

    With C concordant and D discordant of n0 pairs, and n1, n2 pairs tied in a and in b: (C - D) / sqrt((n0 - n1)(n0 -
    n2)).
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    assert x.shape == y.shape, f"{x.shape} and {y.shape} scores"
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return _tau_b(*(np.unique(each, return_inverse=True)[1].astype(np.int64) for each in (x, y)))


def _tau_b(x: Integers, y: Integers) -> float:
    """Of whole numbers from 0. In place of scipy.stats.kendalltau, because that module takes a second to import."""
    pairs = len(x) * (len(x) - 1) // 2
    tied_x, tied_y, tied_in_both = (_tied_pairs(each) for each in (x, y, x * (y.max() + 1) + y))
    discordant = _inversions(y[np.lexsort((y, x))])
    lead = pairs - tied_x - tied_y + tied_in_both - 2 * discordant  # C - D
    return float(np.clip(lead / np.sqrt(pairs - tied_x) / np.sqrt(pairs - tied_y), -1, 1))


def _tied_pairs(values: Integers) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: Integers) -> int:
    """The number of pairs of whole numbers from 0 in falling order. Two numbers differ first in the highest bit in
    which they are unequal. So for each bit, and each zero in it, the ones before it are counted among the numbers whose
    higher bits agree."""
    found = 0
    for bit in range(int(values.max()).bit_length()):
        grouped = values[np.argsort(values >> (bit + 1), kind="stable")]
        ones, groups = grouped >> bit & 1, grouped >> (bit + 1)
        before = np.cumsum(ones) - ones
        first_of_group = np.searchsorted(groups, groups)
        found += int((before - before[first_of_group])[ones == 0].sum())
    return found


def krippendorff(scores: ArrayLike, level: Level = "interval") -> float | None:
    """alpha = 1 - observed / expected disagreement, from the coincidence matrix of the scores. scores: one row a judge,
    one column a picture, NaN if missing. Pictures with fewer than two scores are ignored. None if nothing is left, or
    all scores are equal."""
    x = np.asarray(scores, dtype=np.float64)
    x = x[:, (~np.isnan(x)).sum(axis=0) > 1]
    if not x.size:
        return None
    values, coded = np.unique(x[~np.isnan(x)], return_inverse=True)
    counts = np.zeros((x.shape[1], len(values)))
    np.add.at(counts, (np.nonzero(~np.isnan(x))[1], coded), 1)
    pairable = counts.sum(axis=1)
    together = (counts / (pairable - 1)[:, None]).T @ counts
    together -= np.diag((counts / (pairable - 1)[:, None]).sum(axis=0))
    totals = together.sum(axis=1)
    apart = _DISTANCES[level](values, totals)
    expected = float((np.outer(totals, totals) * apart).sum()) / (totals.sum() - 1)
    return None if expected == 0 else 1 - float((together * apart).sum()) / expected


def _interval(values: Floats, totals: Floats) -> Floats:
    return (values[:, None] - values[None, :]) ** 2


def _ordinal(values: Floats, totals: Floats) -> Floats:
    """The squared number of scores between two values, counting half of those at both ends."""
    below = np.cumsum(totals) - totals / 2
    return np.asarray((below[:, None] - below[None, :]) ** 2)


_DISTANCES: dict[Level, Callable[[Floats, Floats], Floats]] = {"interval": _interval, "ordinal": _ordinal}


def judge_agreement(scores: Scores) -> dict[str, dict[str, float | int | None]]:
    """For every two judges: tau-b and both alphas over the pictures of all systems that both scored, and the number n
    of these."""
    of_judge: dict[str, dict[tuple[str, str, int], float]] = {}
    for system, judges in scores.items():
        for judge, cells in judges.items():
            known = of_judge.setdefault(judge, {})
            for records in cells.values():
                known |= {(system, case, seed): score for case, seed, score in records if score is not None}
    return {f"{a} / {b}": _of_two(of_judge[a], of_judge[b]) for a, b in combinations(of_judge, 2)}


def _of_two(
    a: dict[tuple[str, str, int], float], b: dict[tuple[str, str, int], float]
) -> dict[str, float | int | None]:
    both: Sequence[tuple[str, str, int]] = [key for key in a if key in b]
    x, y = [a[key] for key in both], [b[key] for key in both]
    return {
        "kendall": kendall(x, y),
        "alpha_interval": krippendorff([x, y], "interval"),
        "alpha_ordinal": krippendorff([x, y], "ordinal"),
        "n": len(both),
    }
