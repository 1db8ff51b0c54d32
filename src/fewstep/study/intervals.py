"""A mean over runs and cases, with what it can be trusted for.

A score varies for two reasons that have nothing to do with each other: which case was asked, and which run was made.
Every run answers every case, so the two are crossed: records of one case share its difficulty, records of one run its
luck. Intervals resample both, runs and cases, each whole and on its own (the bootstrap of crossed factors, Owen 2007,
"The pigeonhole bootstrap"): a little too wide rather than too narrow. Comparisons subtract before they resample, same
run seed and same case on both sides.

With S runs the bootstrap sees (S - 1) / S of the variance between runs: half, when there are two. So deviations of a
run from the mean of the runs are taken times sqrt(S / (S - 1)). That mends the variance, not the ignorance: two runs
say little about a third, which is why a verdict also wants every run on its side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ScoreArray = NDArray[np.float64]
RESAMPLES = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """value: the mean over groups of the mean over their runs and cases. low and high: None where fewer than two cases
    a group leave nothing to resample. by_seed: the value of each run alone; one entry where runs do not come in."""

    value: float
    low: float | None
    high: float | None
    cases: int
    by_seed: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        def shown(x: float | None) -> float | None:
            return None if x is None else round(x, 6)

        return {
            "value": shown(self.value),
            "low": shown(self.low),
            "high": shown(self.high),
            "cases": self.cases,
            "by_seed": [shown(x) for x in self.by_seed],
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Interval":
        return cls(values["value"], values["low"], values["high"], values["cases"], tuple(values["by_seed"]))


def crossed_interval(groups: Sequence[ScoreArray], seed: int = 0) -> Interval:
    """The mean over groups (categories) with its percentile interval.

    Args:
        groups: one matrix each, runs down (the same runs in all of them), cases across.
        seed: of the resampling; the same draws whenever it is asked again.
    """
    assert groups, "nothing to average"
    runs = groups[0].shape[0]
    assert all(g.ndim == 2 and g.shape[0] == runs and g.size for g in groups), [g.shape for g in groups]
    by_seed = np.mean([g.mean(axis=1) for g in groups], axis=0)
    value, cases = float(by_seed.mean()), sum(g.shape[1] for g in groups)
    values = tuple(float(x) for x in by_seed)
    if min(g.shape[1] for g in groups) < 2:
        return Interval(value, None, None, cases, values)
    rng = np.random.default_rng(seed)
    run_counts = rng.multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES)
    drawn = np.mean([_drawn(_spread(g), run_counts, rng) for g in groups], axis=0)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), cases, values)


def _spread(group: ScoreArray) -> ScoreArray:
    """The group with its runs' deviations enlarged by sqrt(S / (S - 1))."""
    runs = group.shape[0]
    if runs == 1:
        return group
    deviation = group.mean(axis=1, keepdims=True) - group.mean()
    return group + (np.sqrt(runs / (runs - 1)) - 1) * deviation


def _drawn(group: ScoreArray, run_counts: NDArray[np.int64], rng: np.random.Generator) -> ScoreArray:
    """RESAMPLES means of the group: runs as counted in run_counts, cases drawn here."""
    runs, cases = group.shape
    case_counts = rng.multinomial(cases, np.full(cases, 1 / cases), size=RESAMPLES)
    total: ScoreArray = ((run_counts @ group) * case_counts).sum(axis=1)
    return total / (runs * cases)
