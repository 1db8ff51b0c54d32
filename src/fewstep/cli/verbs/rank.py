"""What `fewstep rank` prints."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from fewstep.bench.paired.catalogue import BY_NAME, COMPOSITE
from fewstep.bench.statistics import Estimate
from fewstep.run.self_exam.rank import RunRanking

COLUMNS = ("t2i.psnr", "edit.psnr")  # what fits 80 columns; all of them stand in rank.json and in the report


def print_ranking(found: RunRanking, console: Console) -> None:
    """A row for each kept student, best first; the teacher at as many steps; and which to ship."""
    shown = [name for name in COLUMNS if name != found.by and any(name in one.figures for one in found.students)]
    scored = sorted({name for one in found.students for name in one.figures} - {*BY_NAME, COMPOSITE, found.by})
    table = Table("iteration", found.by, "behind", *shown, *scored)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for one in found.students:
        behind = "" if one.iteration == found.ship else _words(one.behind)
        table.add_row(f"{one.iteration:,}", *_cells(one.figures, found.by, behind, [*shown, *scored]))
    if found.few is not None:
        table.add_section()
        table.add_row("teacher", *_cells(found.few.figures, found.by, "", [*shown, *scored]))
    console.print(table)
    console.print(_few_words(found), highlight=False, soft_wrap=True)
    close = [one.iteration for one in found.students[1:] if not one.told_apart]
    told = f" Not told apart from it: {', '.join(map(str, close))}." if close else ""
    console.print(
        f"ship iteration [bold]{found.ship:,}[/].{told} fewstep export {found.run} --checkpoint best takes it",
        highlight=False,
        soft_wrap=True,
    )


def _cells(figures: Mapping[str, float], by: str, behind: str, rest: Sequence[str]) -> list[str]:
    own = f"{figures[by]:.4g}" if by in figures else "-"
    return [own, behind, *(f"{figures[name]:.3g}" if name in figures else "-" for name in rest)]


def _few_words(found: RunRanking) -> str:
    if found.few is not None:
        return f"teacher: at {found.few.steps} steps without guidance, as many network calls as the student's"
    return (
        "The teacher at the student's steps is not in this table: its pictures were not drawn, since the version that "
        "examined this run did not draw them"
    )


def _words(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} ({estimate.low:.2g} to {estimate.high:.2g})"
