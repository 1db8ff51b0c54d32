"""How many runs a cell needs: from the smallest difference that a study is to decide, and what runs differ by."""

from math import ceil, sqrt
from statistics import stdev

from fewstep.study.intervals import Interval

NORMAL = 1.96  # half of a 95 % interval, in standard errors
FEWEST_CASES = 20  # ours: per category
MOST_RUNS = 1000  # more is told as "more cases": no number of runs helps
MOST_CASES = 2000  # ours: per category; more is not told


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
    errors = _errors(found)
    if errors is None:
        return None
    by_runs, by_cases = errors
    return _needed(len(found.by_seed), by_runs, by_cases, found.value - bar, MOST_RUNS)


def cases_to_decide(found: Interval, bar: float, categories: int) -> int | None:
    """Cases of each of so many categories that suffice for the interval around the same difference, over the same runs,
    not to reach the bar any more.

    All of the spread between runs is counted as what cases do not narrow. Some of it is theirs, so fewer may do. None:
    there is one run only, or runs alone keep the interval as wide, by this count, or more than MOST_CASES are needed.
    """
    errors = _errors(found)
    if errors is None:
        return None
    by_runs, by_cases = errors
    return _needed(ceil(found.cases / categories), by_cases, by_runs, found.value - bar, MOST_CASES)


def _needed(have: int, narrowed: float, kept: float, reach: float, most: int) -> int | None:
    """How many instead of `have` shrink the interval until it reaches less far than `reach`; None if more than `most`.

    Args:
        narrowed, kept: squared standard errors: the one that more of them divide, and the one that stays.
    """
    allowed = (reach / NORMAL) ** 2 - kept
    if allowed <= 0:
        return None
    needed = max(have + 1, ceil(have * narrowed / allowed))
    return needed if needed <= most else None


def unfit(found: Interval, categories: int) -> str | None:
    """Why an examination over so many categories allows no conclusion, whatever the interval; None if it does."""
    if found.cases < FEWEST_CASES * categories:
        return f"fewer than {FEWEST_CASES} cases a category: too few for an interval to mean what it says"
    if found.low == found.high:
        return "every case came out the same: an interval of no width is no certainty; ask more cases"
    return None


def _errors(found: Interval) -> tuple[float, float] | None:
    """The squared standard error that runs, and that cases, bring into the interval. None with one run only."""
    if found.low is None or found.high is None or len(found.by_seed) < 2:
        return None
    by_runs = stdev(found.by_seed) ** 2 / len(found.by_seed)
    error = (found.high - found.low) / 2 / NORMAL
    return by_runs, max(0.0, error**2 - by_runs)
