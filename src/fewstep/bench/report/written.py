"""How an estimate is written in a cell: the value, its interval below, a whisker where the column has a scale."""

from fewstep.bench.report.parts import Cell, Whisker
from fewstep.bench.statistics import LEVEL, Estimate

CERTAIN = f"{100 * LEVEL:.0f} %"


def estimated(estimate: Estimate, whisker: bool = False, digits: int = 2) -> Cell:
    if estimate.value is None or estimate.value != estimate.value:
        return Cell("–")
    drawn = Whisker(estimate.value, estimate.low, estimate.high) if whisker else None
    return Cell(f"{estimate.value:.{digits}f}", between(estimate, digits), drawn)


def difference(estimate: Estimate | None, digits: int = 2) -> Cell:
    """Marked where the interval is clear of zero."""
    if estimate is None or estimate.value is None:
        return Cell("–")
    low, high = estimate.low, estimate.high
    clear = low is not None and high is not None and (low > 0 or high < 0)
    under = "" if low is None or high is None else f"{signed(low, digits)} to {signed(high, digits)}"
    return Cell(signed(estimate.value, digits), under, Whisker(estimate.value, low, high), mark=clear)


def between(estimate: Estimate, digits: int = 2) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{estimate.low:.{digits}f} to {estimate.high:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
