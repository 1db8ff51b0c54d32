"""Pictures judged in pairs: who wins, by how much, and how much the first place helps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fewstep.bench.pair_verdict import FOLDER, PairVerdict, folder_name, read_pairs
from fewstep.bench.pairwise import (
    Duel,
    Strengths,
    davidson,
    win_rates,
)
from fewstep.bench.report.cells import (
    CERTAIN,
    estimate_cell,
    interval_range,
    signed,
)
from fewstep.bench.report.groups import GalleryGroup
from fewstep.bench.report.tables import (
    Cell,
    ReportRow,
    Table,
)
from fewstep.bench.statistics import Estimate
from fewstep.bench.votes import HUMAN

HOW_DUELS = (
    "Two pictures of one case side by side, in both orders. Strengths are the logarithms of Davidson's model, with "
    "ties and the advantage of the first place: of two systems of strengths a and b the first wins, ties aside, with "
    "1 / (1 + exp(b - a))."
)


def duel_tables(group: GalleryGroup, key: str) -> Iterator[Table]:
    """One table for each judge that compared pairs of these galleries."""
    for judge, verdicts in _by_judge(group).items():
        duels = [Duel(v.case, v.first, v.second, v.won) for v in verdicts if v.won is not None]  # type: ignore[arg-type]
        if duels:
            yield _table(group, judge, verdicts, duels, f"{key}-{judge}")


def _by_judge(group: GalleryGroup) -> Mapping[str, list[PairVerdict]]:
    """Answers about two systems that are both in this report."""
    names = {system.name for system in group.systems}
    called = {folder_name(name): name for name in names} | {name: name for name in names}  # as in older records
    found: dict[str, list[PairVerdict]] = {}
    for system in group.systems:
        for file in _files(system.folder):
            told = [v for v in read_pairs(file) if {v.first, v.second} <= called.keys()]
            found.setdefault(file.stem, []).extend(
                replace(v, first=called[v.first], second=called[v.second]) for v in told
            )
    return found


def _files(gallery: Path) -> list[Path]:
    there = sorted((gallery / FOLDER).glob("*/*.jsonl"))
    return [path for path in there if not path.name.endswith(".attempts.jsonl")]


def _table(group: GalleryGroup, judge: str, verdicts: Sequence[PairVerdict], duels: Sequence[Duel], key: str) -> Table:
    fitted, rates = davidson(duels), win_rates(duels)
    names = sorted(fitted.systems, key=lambda name: -(fitted.systems[name].value or 0.0))
    columns = ("strength", *(f"wins against {name}" for name in names))
    lines = tuple(
        ReportRow(
            name,
            (
                estimate_cell(fitted.systems[name], whisker=True, at=0.0),
                *(Cell("") if other == name else _share(rates.get((name, other))) for other in names),
            ),
        )
        for name in names
    )
    return Table(key, f"{group.name}, pairs judged by {judge}", columns, lines, _note(fitted, verdicts, duels))


def _share(rate: Estimate | None) -> Cell:
    """Ties count half."""
    if rate is None or rate.value is None:
        return Cell("–")
    ends = (
        "no interval" if rate.low is None or rate.high is None else f"{100 * rate.low:.0f} to {100 * rate.high:.0f} %"
    )
    return Cell(f"{100 * rate.value:.0f} %", ends)


def _note(fitted: Strengths, verdicts: Sequence[PairVerdict], duels: Sequence[Duel]) -> str:
    first = fitted.first_place
    place = (
        f"The first place is worth {signed(first.value)} ({CERTAIN}: {interval_range(first)}). "
        if first.value is not None
        else ""
    )
    silent = len(verdicts) - len(duels)
    if all(verdict.judge.startswith(HUMAN) for verdict in verdicts):
        place = f"A person saw each pair once, sides drawn by lot. {place}"
    return f"{place}{len(duels):,} answers, {100 * fitted.tie:.0f} % ties between equals" + (
        f"; {silent:,} got no answer and count for nobody." if silent else "."
    )
