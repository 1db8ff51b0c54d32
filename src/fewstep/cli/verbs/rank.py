"""What `fewstep rank` prints."""

from rich.console import Console
from rich.table import Table

from fewstep.bench.paired.catalogue import BY_NAME, COMPOSITE
from fewstep.bench.statistics import Estimate
from fewstep.run.self_exam.rank import RunRanking

COLUMNS = ("t2i.psnr", "edit.psnr")  # what fits 80 columns; all of them stand in rank.json and in the report


def print_ranking(found: RunRanking, console: Console) -> None:
    """A row for each kept student, best first, and which to ship."""
    shown = [name for name in COLUMNS if name != found.by and any(name in one.figures for one in found.students)]
    scored = sorted({name for one in found.students for name in one.figures} - {*BY_NAME, COMPOSITE, found.by})
    table = Table("iteration", found.by, "behind", *shown, *scored)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for one in found.students:
        figures = (f"{one.figures[name]:.3g}" if name in one.figures else "-" for name in (*shown, *scored))
        behind = "" if one.iteration == found.ship else _words(one.behind)
        table.add_row(f"{one.iteration:,}", f"{one.figures[found.by]:.4g}", behind, *figures)
    console.print(table)
    close = [one.iteration for one in found.students[1:] if not one.told_apart]
    told = f" Not told apart from it: {', '.join(map(str, close))}." if close else ""
    console.print(
        f"ship iteration [bold]{found.ship:,}[/].{told} fewstep export {found.run} --checkpoint best takes it",
        highlight=False,
        soft_wrap=True,
    )


def _words(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} ({estimate.low:.2g} to {estimate.high:.2g})"
