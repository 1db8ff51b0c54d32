"""The paper's tables as data, and the paper's rule of rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean

from fewstep.runtime import strict_yaml

JUDGES = ("A", "B")


@dataclass(frozen=True)
class PaperRow:
    """cells: judge -> scores in the order of the table's columns. average, rank: as printed."""

    cells: Mapping[str, tuple[float, ...]]
    average: tuple[float, float]
    rank: int


@dataclass(frozen=True)
class PaperTable:
    number: int
    task: str
    columns: tuple[str, ...]
    rows: Mapping[str, PaperRow]
    misprints: tuple[Mapping[str, object], ...]  # printed averages that the cells do not give

    def score(self, row: str, categories: tuple[str, ...]) -> float:
        """A row's mean over categories and over the judges."""
        places = [self.columns.index(category) for category in categories]
        return fmean(fmean(self.rows[row].cells[judge][i] for i in places) for judge in JUDGES)


@cache
def tables() -> Mapping[int, PaperTable]:
    """By number."""
    file = resources.files("fewstep") / "study" / "paper.yaml"
    raw = strict_yaml.load_yaml(file.read_text(encoding="utf-8"), "paper.yaml")
    return {int(number): _table(int(number), told) for number, told in raw.items()}


def _table(number: int, told: Mapping[str, object]) -> PaperTable:
    rows = {
        name: PaperRow({judge: tuple(row[judge]) for judge in JUDGES}, tuple(row["average"]), row["rank"])
        for name, row in told["rows"].items()  # type: ignore[attr-defined]
    }
    columns, misprints = told["columns"], told.get("misprints", [])
    return PaperTable(number, str(told["task"]), tuple(columns), rows, tuple(misprints))  # type: ignore[arg-type]


def paper_ranks(averages: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """row -> its rank, 1 the best, by the mean over judges of its averages (row -> judge -> average). Equal rows share
    the better rank."""
    overall = {row: fmean(by_judge.values()) for row, by_judge in averages.items()}
    return {row: 1 + sum(other > value for other in overall.values()) for row, value in overall.items()}
