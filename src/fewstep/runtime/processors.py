"""What other processes leave of this machine's processors."""

import os
import time
from collections.abc import Callable
from typing import Self

import psutil

BUSY, QUIET = 0.25, 0.12  # ours: others' share of the processors at which a run is told so, and that they have ended
FIRST_S, EVERY_S = 5.0, 30.0  # ours


class OthersLoad:
    """Measures how much of the machine other processes take, between `begin` and `share`."""

    def __init__(self, total_s: float, ours_s: float, at_s: float, processors: int):
        self.total_s, self.ours_s, self.at_s, self.processors = total_s, ours_s, at_s, processors

    @classmethod
    def begin(cls) -> Self:
        return cls(_machine_s(), _ours_s(), time.monotonic(), psutil.cpu_count() or 1)

    def share(self) -> float:
        """The others' part of all processor time since the beginning, in [0, 1]."""
        passed_s = (time.monotonic() - self.at_s) * self.processors
        others_s = (_machine_s() - self.total_s) - (_ours_s() - self.ours_s)
        return min(1.0, max(0.0, others_s / passed_s)) if passed_s > 0 else 0.0


class BusyWatch:
    """Tells when other work begins to slow down a run on a CPU, and when it has ended. Call `look` often."""

    def __init__(self, say: Callable[[str], None], first_s: float = FIRST_S, every_s: float = EVERY_S):
        self.say, self.every_s, self.busy = say, every_s, False
        self.load, self.due_s = OthersLoad.begin(), time.monotonic() + first_s

    def look(self) -> None:
        if time.monotonic() < self.due_s:
            return
        share, processors = self.load.share(), self.load.processors
        self.load, self.due_s = OthersLoad.begin(), time.monotonic() + self.every_s
        if not self.busy and share >= BUSY:
            self.busy = True
            self.say(
                f"this machine is busy: other processes take {share * processors:.1f} of its {processors} processors, "
                "and each iteration takes longer by as much"
            )
        elif self.busy and share <= QUIET:
            self.busy = False
            self.say("this machine is quiet again")


def _machine_s() -> float:
    """Seconds that all processors were busy since the machine started."""
    t = psutil.cpu_times()
    idle_s = t.idle + getattr(t, "iowait", 0.0)
    guests_s = getattr(t, "guest", 0.0) + getattr(t, "guest_nice", 0.0)  # Linux counts them in user and nice already
    return float(sum(t) - idle_s - guests_s)


def _ours_s() -> float:
    """Seconds of this process and of children that have ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system
