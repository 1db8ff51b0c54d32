"""What a report is made of: tables of cells. Where the numbers come from is not known here, and how they are drawn
is the template's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CellMark = Literal["", "better", "worse", "apart"]  # apart: clear of equality, where neither direction is better


@dataclass(frozen=True)
class Whisker:
    """A value with its interval, and what it is held against: drawn on the scale that the column's whiskers of one
    `scale` share."""

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
    """text, and small below it what qualifies it. shade: 0 to 1, how strongly the cell is tinted. mark: the reader's
    eye belongs here."""

    text: str
    under: str = ""
    whisker: Whisker | None = None
    shade: float | None = None
    mark: CellMark = ""


@dataclass(frozen=True)
class ReportRow:
    """One row. group: a heading above the first line of each group. band: lines of one number are marked alike."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""
    strong: bool = False
    band: int | None = None


@dataclass(frozen=True)
class Table:
    """key names it in the page and in what is copied. first: what the lines are. common: all columns share scales."""

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
        """The scale of the column's whiskers of this name: intervals and what they are held against, and a margin."""
        cells = [cell for line in self.lines for i, cell in enumerate(line.cells) if self.common or i == column]
        whiskers = [cell.whisker for cell in cells if cell.whisker and cell.whisker.scale == scale]
        return padded([end for whisker in whiskers for end in whisker.ends])


def padded(ends: Sequence[float]) -> tuple[float, float]:
    """The range of these numbers, a little wider; never empty."""
    pad = 0.06 * (max(ends) - min(ends)) or 0.1
    return min(ends) - pad, max(ends) + pad
