"""The parts of a report: tables of cells. This module does not know where the numbers come from; the template decides
how they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CellMark = Literal["", "better", "worse", "apart"]  # apart: clearly different, with neither direction better


@dataclass(frozen=True)
class Whisker:
    """A value with its interval, and what it is compared with. Whiskers of one `scale` in a column share their axis."""

    value: float
    low: float | None
    high: float | None
    at: float | None = None
    scale: str = ""

    @property
    def ends(self) -> list[float]:
        return [x for x in (self.value, self.low, self.high, self.at) if x is not None]


@dataclass(frozen=True)
class Cell:
    """text, and a small note below it. shade: 0 to 1, how strongly the cell is tinted. mark: highlights the cell."""

    text: str
    under: str = ""
    whisker: Whisker | None = None
    shade: float | None = None
    mark: CellMark = ""


@dataclass(frozen=True)
class ReportRow:
    """One row. group: a heading above the first row of each group. band: rows with the same number are marked alike."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""
    strong: bool = False
    band: int | None = None


@dataclass(frozen=True)
class Table:
    """key names it in the page and in what is copied. first: the heading of the rows. common: all columns share
    scales."""

    key: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[ReportRow, ...]
    note: str = ""
    first: str = "system"
    folded: bool = False
    heat: bool = False
    common: bool = False

    def span(self, column: int, scale: str) -> tuple[float, float]:
        """The axis of the column's whiskers of this name: their intervals and references, with a margin."""
        cells = [cell for line in self.lines for i, cell in enumerate(line.cells) if self.common or i == column]
        whiskers = [cell.whisker for cell in cells if cell.whisker and cell.whisker.scale == scale]
        return padded([end for whisker in whiskers for end in whisker.ends])


def padded(ends: Sequence[float]) -> tuple[float, float]:
    """The range of these numbers, a little wider; never empty."""
    pad = 0.06 * (max(ends) - min(ends)) or 0.1
    return min(ends) - pad, max(ends) + pad
