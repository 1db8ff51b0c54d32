"""How an estimate is written in a cell: the value, its interval below, and a whisker if it is compared with
something."""

from math import isnan

from fewstep.bench.report.tables import (
    Cell,
    CellMark,
    Whisker,
)
from fewstep.bench.statistics import LEVEL, Estimate

CERTAIN = f"{100 * LEVEL:.0f} %"


def estimate_cell(estimate: Estimate, digits: int = 2, whisker: bool = False, at: float | None = None) -> Cell:
    if estimate.value is None or isnan(estimate.value):
        return Cell("–")
    drawn = Whisker(estimate.value, estimate.low, estimate.high, at) if whisker else None
    return Cell(_figure(estimate.value, digits), interval_range(estimate, digits), drawn)


def difference_cell(estimate: Estimate | None, digits: int = 2, better: str | None = "higher", scale: str = "") -> Cell:
    """A minus B, compared with 0."""
    if estimate is None or estimate.value is None:
        return Cell("–")
    low, high = estimate.low, estimate.high
    under = "no interval" if low is None or high is None else f"{signed(low, digits)} to {signed(high, digits)}"
    whisker = Whisker(estimate.value, low, high, 0.0, scale)
    return Cell(signed(estimate.value, digits), under, whisker, mark=_mark(estimate, 0.0, better))


def ratio_cell(estimate: Estimate, better: str | None, scale: str = "") -> Cell:
    """A over B, compared with 1."""
    if estimate.value is None:
        return Cell("–")
    whisker = Whisker(estimate.value, estimate.low, estimate.high, 1.0, scale)
    return Cell(f"× {estimate.value:.3f}", interval_range(estimate, 3), whisker, mark=_mark(estimate, 1.0, better))


def interval_range(estimate: Estimate, digits: int = 2) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{_figure(estimate.low, digits)} to {_figure(estimate.high, digits)}"


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _figure(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "−")


def _mark(estimate: Estimate, at: float, better: str | None) -> CellMark:
    """Only if the whole interval lies on one side."""
    if estimate.low is None or estimate.high is None or estimate.low <= at <= estimate.high:
        return ""
    if better is None:
        return "apart"
    return "better" if (estimate.low > at) == (better == "higher") else "worse"
