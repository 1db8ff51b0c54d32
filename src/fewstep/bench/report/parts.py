"""What a report is made of: tables of cells. Where the numbers come from is not known here, and how they are drawn
is the template's."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Whisker:
    """A value with its interval, on the scale of its column."""

    value: float
    low: float | None
    high: float | None

    @property
    def ends(self) -> list[float]:
        return [x for x in (self.value, self.low, self.high) if x is not None]


@dataclass(frozen=True)
class Cell:
    """text, and small below it what qualifies it. shade: 0 to 1, how strongly the cell is tinted.
    mark: the reader's eye belongs here (a difference whose interval is clear of zero)."""

    text: str
    under: str = ""
    whisker: Whisker | None = None
    shade: float | None = None
    mark: bool = False


@dataclass(frozen=True)
class Line:
    """One row. group: a heading above the first line of each group. band: lines of one number are marked alike."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    group: str = ""
    strong: bool = False
    band: int | None = None


@dataclass(frozen=True)
class Table:
    """key names it in the page and in what is copied. at: where the whiskers of a column have their mark, by column
    number."""

    key: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""
    first: str = "system"
    at: dict[int, float] = field(default_factory=dict)
    folded: bool = False
    heat: bool = False
    common: bool = False  # all columns share one scale

    def span(self, column: int, group: str = "") -> tuple[float, float]:
        """The scale of a column's whiskers within a group of lines: every interval and the mark, a little wider."""
        lines = [line for line in self.lines if line.group == group]
        cells = [cell for line in lines for i, cell in enumerate(line.cells) if self.common or i == column]
        ends = [end for cell in cells if cell.whisker for end in cell.whisker.ends]
        return padded([*ends, *([self.at[column]] if column in self.at else [])])


def padded(ends: Sequence[float]) -> tuple[float, float]:
    """The range of these numbers, a little wider; never empty."""
    pad = 0.06 * (max(ends) - min(ends)) or 0.1
    return min(ends) - pad, max(ends) + pad
