"""Which checkpoints outlive newer ones.

The rule, whole: the newest `run.keep_checkpoints`, and the `run.keep_best` best by the examiner's figure `run.best_by`.
Of equal figures the earlier iteration is the better one; a figure that is not finite is never among the best.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fewstep.train.plan import RunPlan


@dataclass(frozen=True)
class Best:
    """An iteration whose student had one of the best figures so far."""

    iteration: int
    value: float


class Ranking:
    """The best few students so far, best first."""

    def __init__(self, run: RunPlan):
        self.by, self.highest, self.places = run.best_by, run.best_is == "highest", run.keep_best
        self.ranked: list[Best] = []

    def enter(self, iteration: int, value: float) -> bool:
        """Whether this student is one of the best few now."""
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
        """What a checkpoint holds of it."""
        return {"by": self.by, "highest": self.highest, "ranked": [asdict(one) for one in self.ranked]}

    def load(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint's state; an older one knows the best alone. Places of another figure, or of the other
        direction, are worth nothing: then it stays empty."""
        older = {"by": self.by, "highest": self.highest, "ranked": [one for one in [state["best"]] if one]}
        held = state.get("ranking", older)
        if (held["by"], held["highest"]) == (self.by, self.highest):
            found = sorted((Best(**one) for one in held["ranked"]), key=self._order)
            self.ranked = found[: self.places]

    def keep(self, iterations: Collection[int]) -> None:
        """Only students whose checkpoints are still there: a fork begins without what its origin had dropped."""
        self.ranked = [one for one in self.ranked if one.iteration in iterations]

    def _order(self, one: Best) -> tuple[float, int]:
        return (-one.value if self.highest else one.value), one.iteration


def expired(oldest_first: Sequence[str], newest: int, spared: Collection[str]) -> list[str]:
    """The checkpoints that go: neither among the newest nor spared."""
    return [name for name in oldest_first[:-newest] if name not in spared]
