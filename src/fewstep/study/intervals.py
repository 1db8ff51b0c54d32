"""A mean over runs and cases, with its uncertainty.

A score varies for two independent reasons: which case was asked, and which run was made. Every run answers every case,
so the two factors are crossed: records of one case share its difficulty, records of one run share its luck. Intervals
resample whole runs and whole cases independently (the bootstrap of crossed factors: Owen 2007, "The pigeonhole
bootstrap"). They are a little too wide rather than too narrow. Comparisons subtract before they resample, with the same
run seed and the same case on both sides.

With S runs the bootstrap sees (S - 1) / S of the variance between runs: half of it with two runs. So the deviations of
runs from their mean are multiplied by sqrt(S / (S - 1)). This corrects the variance but adds no information: two runs
say little about a third. That is why a verdict also requires every run to agree.
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
    """value: the mean over groups of the mean over their runs and cases. low and high: None if a group has fewer than
    two cases, so nothing can be resampled. by_seed: the value of each run alone; a single entry for systems without
    runs."""

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
        seed: of the resampling; the same seed gives the same draws.
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
    """RESAMPLES means of the group. run_counts: how often each run was drawn; cases are drawn here."""
    runs, cases = group.shape
    case_counts = rng.multinomial(cases, np.full(cases, 1 / cases), size=RESAMPLES)
    total: ScoreArray = ((run_counts @ group) * case_counts).sum(axis=1)
    return total / (runs * cases)
