"""Which checkpoints are kept.

The whole rule: the newest `run.keep_checkpoints`, and the `run.keep_best` best by the examiner's figure `run.best_by`.
Of two equal figures that of the later iteration is better: near its ceiling a figure says no more, and training went on
(docs/lab/pocket-student.md, "Of equals, the later"). A figure that is not finite is never among the best.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fewstep.train.plan import RunPlan


@dataclass(frozen=True)
class Best:
    """An iteration whose student had one of the best figures so far."""

    iteration: int
    value: float


class Ranking:
    """The best `run.keep_best` students so far, best first.

    Args:
        closeness: orders values in place of `run.best_is`, more being better.
    """

    def __init__(self, run: RunPlan, closeness: Callable[[float], float] | None = None):
        self.by, self.highest, self.places = run.best_by, run.best_is == "highest", run.keep_best
        self.closeness = closeness
        self.ranked: list[Best] = []

    def enter(self, iteration: int, value: float) -> bool:
        """Adds a student. Returns whether it is one of the best now."""
        if not math.isfinite(value):
            return False
        entered = Best(iteration, value)
        ranked = [*(one for one in self.ranked if one.iteration != iteration), entered]
        self.ranked = sorted(ranked, key=self._order)[: self.places]
        return entered in self.ranked

    @property
    def first(self) -> Best | None:
        return self.ranked[0] if self.ranked else None

    @property
    def iterations(self) -> list[int]:
        return [one.iteration for one in self.ranked]

    def state(self) -> dict[str, Any]:
        """What a checkpoint stores of the ranking."""
        return {"by": self.by, "highest": self.highest, "ranked": [asdict(one) for one in self.ranked]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over the ranking of a checkpoint's state. Older checkpoints hold only the best one.

        A ranking by another figure, or in the other direction, cannot be compared with this one and is ignored.
        """
        older = {"by": self.by, "highest": self.highest, "ranked": [one for one in [state["best"]] if one]}
        held = state.get("ranking", older)
        if (held["by"], held["highest"]) == (self.by, self.highest):
            found = sorted((Best(**one) for one in held["ranked"]), key=self._order)
            self.ranked = found[: self.places]

    def keep(self, iterations: Collection[int]) -> None:
        """Drops students whose checkpoints are gone. A fork starts with only those that its origin still had."""
        self.ranked = [one for one in self.ranked if one.iteration in iterations]

    def _order(self, one: Best) -> tuple[float, int]:
        return -self._better(one.value), -one.iteration

    def _better(self, value: float) -> float:
        if self.closeness is not None:
            return self.closeness(value)
        return value if self.highest else -value

    def without_better(self, values: Sequence[float]) -> int:
        """How many of the latest values there are since the best of all. Values that are not finite are none."""
        known = [self._better(value) for value in values if math.isfinite(value)]
        return len(known) - 1 - known.index(max(known)) if known else 0


def expired(oldest_first: Sequence[str], newest: int, spared: Collection[str]) -> list[str]:
    """The checkpoints to delete: those that are neither among the newest nor in `spared`."""
    return [name for name in oldest_first[:-newest] if name not in spared]
