"""What `fewstep bench suites`, `check`, `adopt` and `import` do and print."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fewstep.bench import importers, shipped
from fewstep.bench.adopt import adopt
from fewstep.bench.build import SuitePlan, write_model_suite
from fewstep.bench.statistics import mean
from fewstep.bench.suite import Suite
from fewstep.bench.suite_check import suite_problems
from fewstep.bench.suites import open_suite, read_suite
from fewstep.bench.verdict import Verdict
from fewstep.endpoint.declaration import load_endpoint
from fewstep.runtime.errors import SuiteError
from fewstep.runtime.task import PAPER_CATEGORIES, Task


def list_suites(console: Console) -> None:
    table = Table("suite", "task", "cases", "seeds", "size", "what it asks")
    for suite in shipped.shipped_suites():
        heading = suite.heading
        size = "the model's" if heading.size is None else f"{heading.size[0]} x {heading.size[1]}"
        table.add_row(heading.name, heading.task, f"{suite.cases:,}", str(heading.seeds), size, suite.words)
    console.print(table)
    console.print(
        "A pocket suite can be cut: pocket-t2i@60 is its first 60 cases. Those of fewstep are CC0.", highlight=False
    )


def check_suite(name: str, console: Console) -> bool:
    """Prints the content of a suite and its problems. Returns whether it can be used."""
    suite = open_suite(name)
    show_suite(suite, console)
    found = suite_problems(suite)
    for warning in found.warnings:
        console.print(f"[yellow]{warning}[/]", highlight=False, soft_wrap=True)
    for problem in found.problems:
        console.print(f"[red]{problem}[/]", highlight=False, soft_wrap=True)
    return not found.problems


def show_suite(suite: Suite, console: Console) -> None:
    table = Table(
        "category", "cases", title=f"{suite.name} {suite.version}: {len(suite.questions):,} {suite.task} cases"
    )
    for category, count in suite.categories.items():
        table.add_row(category, f"{count:,}")
    console.print(table)
    console.print(
        f"hash {suite.hash}, {suite.seeds} seed(s) a case, licence {suite.license or 'not stated'}, in {suite.folder}",
        highlight=False,
        soft_wrap=True,
    )


def adopt_folder(
    folder: Path,
    suite: str,
    to: Path,
    *,
    system: str | None,
    names: str | None,
    table: Path | None,
    allow_missing: bool,
    console: Console,
) -> None:
    opened = open_suite(suite)
    columns = (TextColumn("adopting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(opened.questions) * opened.seeds)
        gallery = adopt(
            *(folder, opened, to),
            system=system,
            names=names,
            table=table,
            allow_missing=allow_missing,
            told=lambda count: progress.advance(bar, count),
        )
    failed = len(gallery.failures)
    console.print(f"{len(gallery):,} pictures in [bold]{to}[/], {failed:,} missing", highlight=False, soft_wrap=True)


def show_scores(verdicts: Sequence[Verdict], gallery: Path, console: Console) -> None:
    """Mean scores by category; the intervals resample whole cases."""
    (judge,) = {verdict.judge for verdict in verdicts}
    table = Table("category", "score", "95 % interval", "pictures", title=f"the {judge}'s scores, 1 to 5")
    for category in dict.fromkeys(verdict.category for verdict in verdicts):
        told = [verdict for verdict in verdicts if verdict.category == category and verdict.score is not None]
        found = mean([verdict.score or 0.0 for verdict in told], [verdict.case for verdict in told])
        between = "" if found.low is None or found.high is None else f"{found.low:.2f} to {found.high:.2f}"
        table.add_row(category, f"{found.value:.2f}", between, f"{found.n:,}")
    console.print(table)
    console.print(f"verdicts in [bold]{gallery / 'verdicts'}[/]", highlight=False, soft_wrap=True)


def import_and_show_suite(layout: str, source: Path, to: Path, language: str | None, console: Console) -> None:
    importers.import_suite(layout, source, to, language)
    show_suite(read_suite(to), console)


def build_suite(
    task: str,
    count: int,
    endpoint: Path,
    to: Path,
    *,
    against: Sequence[Path],
    pictures: Path | None,
    name: str | None,
    seeds: int,
    seed: int,
    licence: str | None,
    console: Console,
) -> None:
    if task not in PAPER_CATEGORIES:
        raise SuiteError(f"--task is t2i or edit, not '{task}'")
    if task == "t2i" and pictures is not None:
        raise SuiteError("--pictures belongs to --task edit; text to image has no sources")
    chosen: Task = "edit" if task == "edit" else "t2i"
    plan = SuitePlan(name or to.name, chosen, count, tuple(against), pictures, seeds, seed, licence)
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print(f"writing into [bold]{to}[/]; the same command goes on after a stop", soft_wrap=True)
    with Progress(*columns, console=console) as progress:
        bars = {category: progress.add_task(category, total=count) for category in PAPER_CATEGORIES[chosen]}
        dropped = write_model_suite(
            plan, load_endpoint(endpoint), to, lambda category, n: progress.update(bars[category], completed=n)
        )
    for reason, n in dropped.most_common():
        console.print(f"dropped {n:,}: {reason}", highlight=False)
    show_suite(read_suite(to), console)
