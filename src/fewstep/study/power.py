"""How many runs a cell needs: from the smallest difference that a study is to decide, and what runs differ by."""

from math import ceil, sqrt
from statistics import stdev

from fewstep.study.intervals import Interval

NORMAL = 1.96  # half of a 95 % interval, in standard errors
FEWEST_CASES = 20  # ours: per category
MOST_RUNS = 1000  # more is told as "more cases": no number of runs helps


def runs_needed(smallest: float, spread: float) -> int:
    """Runs of each cell after which an interval of paired differences is no wider than `smallest` to either side.

    Args:
        spread: the standard deviation of a difference between two runs of one seed, in points of the score.
    """
    return max(2, ceil((NORMAL * spread / smallest) ** 2))


def half_width(runs: int, spread: float) -> float:
    """What an interval over so many runs is wide to either side, by its runs alone."""
    return NORMAL * spread / sqrt(runs)


def runs_to_decide(found: Interval, bar: float) -> int | None:
    """Runs after which the interval around the same difference would not reach the bar any more.

    The runs' share of the interval is taken from their spread; the rest is the cases', which runs do not narrow. None:
    there is one run only, or more cases are needed, not more runs.
    """
    if found.low is None or found.high is None or len(found.by_seed) < 2:
        return None
    spread = stdev(found.by_seed)
    error = (found.high - found.low) / 2 / NORMAL
    by_cases = max(0.0, error**2 - spread**2 / len(found.by_seed))
    allowed = (abs(found.value - bar) / NORMAL) ** 2 - by_cases
    if allowed <= 0:
        return None
    needed = max(len(found.by_seed) + 1, ceil(spread**2 / allowed))
    return needed if needed <= MOST_RUNS else None
