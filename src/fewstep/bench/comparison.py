"""Is A better than B? Two systems on the same cases and seeds, pair by pair, with a margin below which a difference
does not matter."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fewstep.bench.coverage import ENOUGH
from fewstep.bench.power import cases_needed
from fewstep.bench.resampling import (
    Cells,
    ScoreRecord,
    Scores,
    bootstrap_estimate,
    cases_by_category,
    categories_of,
    cell_means,
    judges_of,
    resampled_cell_means,
)
from fewstep.bench.statistics import Estimate

# With fewer cases there is a difference and perhaps an interval, but no conclusion: all of n cases lie on one side of
# the truth in 2 * 0.5^n of all samples, over 5 % below 6, so no resampling of them can hold the truth in 95 %. Six are
# the least, not enough. If one case in ten fails by 4 points, the intervals of 6 cases hold the truth in 50 %, of 10 in
# 66 %, of 20 in 86 %, of 30 in 92 % (simulated).
LEAST_CASES = 6

ComparisonOutcome = Literal["better", "not", "worse"]
Shade = Literal["better", "not worse", "equal", "undecided", "worse", "not better"]


NO_ESTIMATE = Estimate(None, None, None, 0, 0)


@dataclass(frozen=True)
class Comparison:
    """A minus B, signed so that positive is better. pairs: (case, seed) that both have a score for; asked: those asked
    of either. spread: standard deviation of one case's difference within categories; None if it cannot be estimated.
    empty: categories that were asked and have no pair under some judge. An average
    without them would be a different quantity, so there is none; `categories` holds the other categories."""

    margin: float
    overall: Estimate
    judges: Mapping[str, Estimate]
    categories: Mapping[str, Estimate]
    pairs: int
    asked: int
    spread: float | None
    empty: tuple[str, ...] = ()

    @cached_property
    def needed(self) -> int | None:
        """Cases that would resolve the margin (or the difference, if the margin is 0) with power 0.8. None if the
        spread cannot be estimated."""
        value = self.overall.value
        if self.spread is None or value is None:
            return None
        return cases_needed(self.margin or abs(value), self.spread, strata=len(self.categories))

    @property
    def coverage(self) -> float:
        return self.pairs / self.asked if self.asked else 0.0

    @property
    def enough(self) -> bool:
        """Whether enough is scored for a conclusion: what is missing may be the worst."""
        return not self.empty and self.coverage >= ENOUGH

    @property
    def too_few(self) -> bool:
        """Whether there are fewer cases than a conclusion needs (`LEAST_CASES`)."""
        return self.overall.clusters < LEAST_CASES

    @property
    def unanimous(self) -> bool:
        """Whether all cases (of a category) differ by the same. That has no interval, but with enough cases it is an
        answer: the systems' answers may be the same pictures."""
        could_vary = all(each.clusters > 1 for each in self.categories.values())
        return self.overall.value is not None and self.overall.low is None and could_vary

    @property
    def outcome(self) -> ComparisonOutcome:
        return outcome(self._decisive, self.margin)

    @property
    def shade(self) -> Shade:
        return shade(self._decisive, self.margin)

    @property
    def not_inferior(self) -> bool:
        """Whether A is shown to be at most the margin worse."""
        low = self._decisive.low
        return low is not None and low > -self.margin

    @property
    def _decisive(self) -> Estimate:
        """What conclusions rest on."""
        if self.too_few:
            return NO_ESTIMATE
        value = self.overall.value
        return replace(self.overall, low=value, high=value) if self.unanimous else self.overall

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        told["needed"] = self.needed
        del told["spread"]
        return told | {"outcome": self.outcome, "shade": self.shade, "coverage": self.coverage}


def outcome(difference: Estimate, margin: float) -> ComparisonOutcome:
    """better or worse: by more than the margin, with the whole interval. "not": neither is shown."""
    if difference.low is None or difference.high is None:
        return "not"
    if difference.low > margin:
        return "better"
    return "worse" if difference.high < -margin else "not"


def shade(difference: Estimate, margin: float) -> Shade:
    """What "not" may still mean: equal within the margin, not worse by it (non-inferior), not better by it, or
    undecided."""
    decided = outcome(difference, margin)
    if decided != "not":
        return decided
    above = difference.low is not None and difference.low > -margin
    below = difference.high is not None and difference.high < margin
    if above and below:
        return "equal"
    return "not worse" if above else "not better" if below else "undecided"


def compare(
    a: Mapping[str, Cells], b: Mapping[str, Cells], margin: float = 0.0, seed: int = 0, *, lower_is_better: bool = False
) -> Comparison:
    """A minus B on the records that both have.

    Args:
        a, b: judge -> category -> records, of the same judges. A record for each case and seed asked; its score is None
            if it is missing.
        margin: a difference below it does not matter; in units of the score.
    """
    paired, asked, empty = _paired(a, b)
    if not paired["a"]:
        return Comparison(margin, NO_ESTIMATE, {}, {}, pairs=0, asked=asked, spread=None, empty=empty)
    sign = -1.0 if lower_is_better else 1.0
    judges, categories, cases = judges_of(paired), categories_of(paired), cases_by_category(paired)
    means = cell_means(paired)
    gap = sign * (means[0] - means[1])
    resampled = resampled_cell_means(paired, seed)
    drawn = sign * (resampled[:, 0] - resampled[:, 1])
    records = {(j, c): len(paired["a"][j].get(c, ())) for j in judges for c in categories}
    clusters = sum(cases.values())
    by_category = {
        c: bootstrap_estimate(
            float(gap[:, k].mean()), drawn[:, :, k].mean(-1), sum(records[j, c] for j in judges), cases[c], 1
        )
        for k, c in enumerate(categories)
    }
    if empty:
        pairs = sum(records.values())
        return Comparison(margin, NO_ESTIMATE, {}, by_category, pairs=pairs, asked=asked, spread=None, empty=empty)
    return Comparison(
        margin=margin,
        overall=bootstrap_estimate(
            float(gap.mean()), drawn.mean((1, 2)), sum(records.values()), clusters, len(categories)
        ),
        judges={
            judge: bootstrap_estimate(
                float(gap[j].mean()),
                drawn[:, j].mean(-1),
                sum(records[judge, c] for c in categories),
                clusters,
                len(categories),
            )
            for j, judge in enumerate(judges)
        },
        categories=by_category,
        pairs=sum(records.values()),
        asked=asked,
        spread=_spread(paired),
    )


def _paired(a: Mapping[str, Cells], b: Mapping[str, Cells]) -> tuple[Scores, int, tuple[str, ...]]:
    """Both systems with exactly the records that both have, in categories that have some under every judge; how many
    were asked; and the categories that were asked and left out."""
    assert set(a) == set(b), f"judges {sorted(a)} and {sorted(b)}: the caller compares what both have"
    kept: dict[str, dict[str, dict[str, list[ScoreRecord]]]] = {"a": {}, "b": {}}
    asked, empty = 0, set[str]()
    for judge in a:
        for category in {**a[judge], **b[judge]}:
            ours, theirs = _known(a[judge].get(category, ())), _known(b[judge].get(category, ()))
            asked += len({**ours, **theirs})
            both = [key for key in ours if ours[key] is not None and theirs.get(key) is not None]
            for side, scores in (("a", ours), ("b", theirs)):
                if both:
                    kept[side].setdefault(judge, {})[category] = [(*key, scores[key]) for key in both]
            if not both and (ours or theirs):
                empty.add(category)
    whole = {
        side: {
            judge: left
            for judge, cells in judges.items()
            if (left := {name: records for name, records in cells.items() if name not in empty})
        }
        for side, judges in kept.items()
    }
    return whole, asked, tuple(sorted(empty))


def _known(records: Sequence[ScoreRecord]) -> dict[tuple[str, int], float | None]:
    return {(case, seed): score for case, seed, score in records}


def _spread(paired: Scores) -> float | None:
    """Of the differences per case, judges averaged, within categories."""
    gaps: dict[str, dict[str, list[float]]] = {}
    for judge, cells in paired["a"].items():
        for category, records in cells.items():
            for (case, _, ours), (_, _, theirs) in zip(records, paired["b"][judge][category], strict=True):
                assert ours is not None
                assert theirs is not None
                gaps.setdefault(category, {}).setdefault(case, []).append(ours - theirs)
    variances = [
        float(np.var([np.mean(each) for each in cases.values()], ddof=1)) for cases in gaps.values() if len(cases) > 1
    ]
    if len(variances) < len(gaps) or not variances:
        return None
    return float(np.sqrt(np.mean(variances)))
