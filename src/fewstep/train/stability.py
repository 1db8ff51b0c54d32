"""Whether the figures of training have left their own level, and are back at it.

The level of a figure is the median of its last WINDOW quiet values in iterations of one task: a few outliers do not
move it, and a loss that has blown up does not become the new normal. Each task has its own, since edits may have
several times the critic's loss of T2I, and two of a rare task in a row are no rise. What is watched are figures on the
host that the loop has read anyway, so watching changes no number and waits for nothing.

The student's loss is not watched. It begins near 0 where the student begins as its teacher, and then rises in health.
"""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

# All ours. In eleven pocket runs nothing passed them but the two with targets `all`, which blew up (docs/runs.md).
# Healthy losses go up to 2.3 times their level and single norms to 7.6 times, but two norms in a row to 2.5 times only.
FACTORS: Mapping[str, float] = {"critic_loss": 3.0, "critic_norm": 6.0, "student_norm": 6.0}
WINDOW, LEAST = 64, 24  # values of a task that make a level; before LEAST there is none
LOUD, QUIET = 2, 5  # iterations in a row beyond the factor, and within it again


@dataclass(frozen=True)
class Excess:
    """A figure beyond its level. value: None if it was not finite. times: value over level, infinite then."""

    value: float | None
    level: float
    times: float
    iteration: int


@dataclass(frozen=True)
class StabilityChange:
    """Training became unstable, or stable again.

    Args:
        unstable: which of the two.
        since: the first iteration of the present state.
        worst: the largest excess so far of each figure that left its level, by name.
    """

    unstable: bool
    since: int
    worst: Mapping[str, Excess]


@dataclass
class StabilityWatch:
    """Follows the figures of a run, iteration by iteration. It holds no more than what their records tell, so a resumed
    run feeds it with those (`replay`) and goes on the same."""

    quiet_values: defaultdict[tuple[str, str], deque[float]] = field(  # by task and name
        default_factory=lambda: defaultdict(lambda: deque(maxlen=WINDOW))
    )
    unstable: bool = False
    worst: dict[str, Excess] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FACTORS, 0))  # iterations in a row
    loud: int = 0  # iterations in a row with any figure beyond
    quiet: int = 0  # and without

    def add(self, iteration: int, figures: Mapping[str, Any]) -> StabilityChange | None:
        """Takes the figures of an iteration, and its task. Returns what has changed with it, if anything."""
        found = {name: excess for name in FACTORS if (excess := self._excess(iteration, name, figures)) is not None}
        for name in FACTORS:
            self.beyond[name] = self.beyond[name] + 1 if name in found else 0
        self.loud, self.quiet = (self.loud + 1, 0) if found else (0, self.quiet + 1)
        if self.loud == 1 and not self.unstable:
            self.worst = {}
        for name, excess in found.items():
            if name not in self.worst or excess.times > self.worst[name].times:
                self.worst[name] = excess
        return self._change(iteration)

    def replay(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Takes the iterations of metrics.jsonl, in order. What changed in them was told when they ran."""
        for line in lines:
            if line["phase"] == "distil":
                self.add(line["iteration"], line)

    def _change(self, iteration: int) -> StabilityChange | None:
        if not self.unstable and max(self.beyond.values()) >= LOUD:
            self.unstable = True
            return StabilityChange(True, iteration - self.loud + 1, dict(self.worst))
        if self.unstable and self.quiet >= QUIET:
            self.unstable = False
            return StabilityChange(False, iteration - self.quiet + 1, dict(self.worst))
        return None

    def _excess(self, iteration: int, name: str, figures: Mapping[str, Any]) -> Excess | None:
        """How far a figure is beyond its level; None if it is not, and then it counts for the level."""
        if name not in figures:
            return None
        value, held = figures[name], self.quiet_values[figures["task"], name]
        level = median(held) if len(held) >= LEAST else 0.0
        times = math.inf if value is None else value / level if level > 0 else 0.0
        if level > 0 and times > FACTORS[name]:
            return Excess(value, level, times, iteration)
        if value is not None:
            held.append(value)
        return None
