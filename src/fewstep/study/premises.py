"""What must be so before a study can say anything about a conclusion of the paper.

The paper's conclusions were drawn where its teacher was weak at text, and where a specialised teacher was better than
the base. A world without that gives them no trial. So a study file declares its premises before the first run, and
where one fails the verdict is "premise absent".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, Literal

from fewstep.study.intervals import Interval
from fewstep.study.plan import PremisePlan, PremiseSide
from fewstep.study.power import FEWEST_CASES
from fewstep.study.scores import ExaminedRuns, ScoreRow, combined_level, common_judges, contrast

PremiseState = Literal["present", "absent", "unclear", "not examined"]


@dataclass(frozen=True)
class PremiseResult:
    """found: the difference, or the level, that the premise is about; None if its rows have not been examined."""

    name: str
    premise: PremisePlan
    found: Interval | None
    state: PremiseState

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "says": self.premise.says,
            "rows": [*self.premise.higher.rows, *(self.premise.lower.rows if self.premise.lower else ())],
            "at_least": self.premise.at_least,
            "at_most": self.premise.at_most,
            "takeaways": list(self.premise.takeaways),
            "state": self.state,
            "found": None if self.found is None else self.found.as_dict(),
        }


def premise_results(examined: ExaminedRuns, columns: Mapping[str, Sequence[str]]) -> list[PremiseResult]:
    """All premises of the study, in its order. columns: the categories of each task."""
    found = []
    for name, premise in examined.manifest.plan.premises.items():
        interval = _difference(premise, examined, columns)
        few = interval is not None and interval.cases < _fewest_cases(premise, columns)
        found.append(PremiseResult(name, premise, interval, "unclear" if few else state(premise, interval)))
    return found


def _fewest_cases(premise: PremisePlan, columns: Mapping[str, Sequence[str]]) -> int:
    """Below, an interval does not mean what it says; as for contrasts."""
    sides = [premise.higher, *([premise.lower] if premise.lower is not None else [])]
    asked = {side.categories or tuple(columns.get(premise.task, ())) for side in sides}
    return FEWEST_CASES * sum(map(len, asked))


def state(premise: PremisePlan, found: Interval | None) -> PremiseState:
    """Present or absent if the whole interval says so. Without an interval, and across the bound, it is unclear."""
    if found is None:
        return "not examined"
    if found.low is None or found.high is None:
        return "unclear"
    low, high = found.low, found.high
    if premise.at_most is not None:
        low, high, bound = -found.high, -found.low, -premise.at_most
    else:
        assert premise.at_least is not None  # the plan says one of the two
        bound = premise.at_least
    return "present" if low >= bound else "absent" if high < bound else "unclear"


def _difference(premise: PremisePlan, examined: ExaminedRuns, columns: Mapping[str, Sequence[str]]) -> Interval | None:
    """The level of `higher`, less that of `lower` where there is one."""
    higher = _side(premise.higher, premise.task, examined, columns)
    if premise.lower is None or higher is None:
        return None if higher is None else _level(*higher, premise.task)
    lower = _side(premise.lower, premise.task, examined, columns)
    if lower is None:
        return None
    if higher[1] == lower[1]:
        judges = common_judges([*higher[0], *lower[0]])
        return contrast(higher[0], lower[0], judges, premise.task, higher[1])
    over, under = _level(*higher, premise.task), _level(*lower, premise.task)
    return None if over is None or under is None else apart(over, under)


def _side(
    side: PremiseSide, task: str, examined: ExaminedRuns, columns: Mapping[str, Sequence[str]]
) -> tuple[list[ScoreRow], tuple[str, ...]] | None:
    """The rows and categories of a side; None if a row has not been examined."""
    rows = [row for name in side.rows if (row := examined.row(name)) is not None]
    categories = side.categories or tuple(columns.get(task, ()))
    return (rows, categories) if len(rows) == len(side.rows) and categories else None


def _level(rows: Sequence[ScoreRow], categories: Sequence[str], task: str) -> Interval | None:
    return combined_level(rows, common_judges(rows), task, categories)


def apart(over: Interval, under: Interval) -> Interval:
    """The difference of two means over other cases: their errors are independent, so half-widths add in squares."""
    value = over.value - under.value
    seeds = tuple(a - b for a, b in zip(over.by_seed, under.by_seed, strict=False))
    if over.low is None or over.high is None or under.low is None or under.high is None:
        return Interval(value, None, None, over.cases + under.cases, seeds)
    below = hypot(over.value - over.low, under.high - under.value)
    above = hypot(over.high - over.value, under.value - under.low)
    return Interval(value, value - below, value + above, over.cases + under.cases, seeds)
