"""How much of what was asked has a score, and how far the missing scores could move a mean.

A judge that refuses the worst pictures flatters the system that drew them. So a missing score is never replaced by a
number: it is counted, and its effect is bounded by the ends of the scale. A system gets no rank if a judge scored less
than `ENOUGH` of its pictures.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fewstep.bench.resampling import Cells, ScoreRecord
from fewstep.bench.verdict import HIGHEST, LOWEST

ENOUGH = 0.99
SCALE = (LOWEST, HIGHEST)  # of the judges


@dataclass(frozen=True)
class Coverage:
    """scored: how many of `asked` have a score; mean: of the scored. worst and best: the mean if every missing score
    were at one end of the scale. mean is None if nothing is scored; the bounds are None if nothing is asked."""

    scored: int
    asked: int
    mean: float | None
    worst: float | None
    best: float | None

    @property
    def share(self) -> float:
        return self.scored / self.asked if self.asked else 0.0

    @property
    def enough(self) -> bool:
        return self.share >= ENOUGH

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


def coverage(records: Sequence[ScoreRecord], scale: tuple[float, float] = SCALE) -> Coverage:
    """The coverage of one cell. records: one for each case and seed asked, its score None if it is missing."""
    scores = [score for _, _, score in records if score is not None]
    asked, missing, total = len(records), len(records) - len(scores), sum(scores)
    return Coverage(
        scored=len(scores),
        asked=asked,
        mean=total / len(scores) if scores else None,
        worst=(total + missing * scale[0]) / asked if asked else None,
        best=(total + missing * scale[1]) / asked if asked else None,
    )


def coverage_of_cells(cells: Cells, scale: tuple[float, float] = SCALE) -> Coverage:
    """The coverage of one system under one judge: scores are counted over all cells, and means are taken as an average
    takes them."""
    found = [coverage(records, scale) for records in cells.values()]
    return Coverage(
        scored=sum(each.scored for each in found),
        asked=sum(each.asked for each in found),
        mean=_plain_mean([each.mean for each in found]),
        worst=_plain_mean([each.worst for each in found]),
        best=_plain_mean([each.best for each in found]),
    )


def _plain_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
