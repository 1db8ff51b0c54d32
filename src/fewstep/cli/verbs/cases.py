"""What `fewstep cases check` and `convert` print."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn
from rich.table import Table

from fewstep.backbones.conditioning_estimate import ConditioningEstimate, estimate_conditioning
from fewstep.data.case_sizes import CaseSizes
from fewstep.data.cases import Case
from fewstep.data.check import CasesReport, check_sources
from fewstep.data.convert import convert, pictures_folder
from fewstep.data.plan import SizesPlan
from fewstep.encode.long_text import refuse_long_text
from fewstep.runtime import durable
from fewstep.runtime.errors import ModelError

SHOWN = 50  # duplicates and overlaps that are named one by one
PROBLEMS = 20  # of each file
SIZES = 5  # of edits, the most frequent first
KINDS = 10  # of them, counted where there are more
ASSUMED_SIZE = (1024, 1024)  # px, of cases that state none: references take positions that the text then lacks


def check_cases(
    sources: Sequence[str],
    against: Path | None,
    console: Console,
    *,
    to: Path | None = None,
    model: str | None = None,
) -> bool:
    """Prints counts, duplicates, overlap, and each file's first problems with the kinds of all. Returns whether a
    run could use these cases. to: a file to write every problem to. model: the one that will read them.

    Raises:
        ModelError: `model` cannot be read, or its tokenizer is not on this machine.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    refuse = partial(_refuse_unread, estimate=_reader(model), sizes=sizes) if model else lambda case: None
    with _counting("cases read", console) as seen:
        report = check_sources(sources, against, seen, refuse)
    table = Table("task", "category", "cases", title=f"{report.usable:,} usable cases")
    table.columns[2].justify = "right"
    for (task, category), count in report.counts.items():
        table.add_row(task, escape(category), f"{count:,}")
    console.print(table)
    if len(sizes) > 1:
        shown = ", ".join(f"{h} x {w} ({count:,})" for (h, w), count in sizes.most_common(SIZES))
        area = f"{ASSUMED_SIZE[0]} x {ASSUMED_SIZE[1]} px"
        text = f"edits without a size, of a model whose own is {area}: {len(sizes):,} sizes, most frequent {shown}"
        console.print(text, highlight=False, soft_wrap=True)
    _remarks([f"the same case: {', '.join(group)}" for group in report.duplicates], console)
    if against is not None:
        console.print(
            f"{len(report.overlap):,} cases share words with {escape(str(against))}", highlight=False, soft_wrap=True
        )
    _remarks(_overlaps(report), console)
    if report.ignored:
        told = ", ".join(f"{key!r:.60} ({count:,})" for key, count in report.ignored.items())
        console.print(f"keys that are ignored, and their cases: {escape(told)}", highlight=False, soft_wrap=True)
    _problems(report, console, listed=to is not None)
    if to is not None:
        _write_problems(report, to, console)
    return report.passed


def _reader(model: str) -> ConditioningEstimate:
    estimate = estimate_conditioning(model)
    if estimate.tokens is None:
        raise ModelError(f"--model {model}: its tokenizer is not on this machine; give the model's folder")
    return estimate


def _refuse_unread(case: Case, estimate: ConditioningEstimate, sizes: Counter[tuple[int, int]]) -> None:
    """Refuses a case that the model does not take; counts the size of an edit."""
    rule = CaseSizes(SizesPlan.model_validate({}), ASSUMED_SIZE, 0, estimate)
    height, width = rule.of(case)
    refuse_long_text([replace(case, height=height, width=width)], estimate, ASSUMED_SIZE)
    if case.task == "edit" and case.height is None:
        sizes[height, width] += 1


def convert_cases(source: str, to: Path, console: Console) -> None:
    """Writes the canonical file and prints where it and its pictures are."""
    with _counting("cases read", console) as seen:
        cases = convert(source, to, seen)
    kept = pictures_folder(to)
    pictures = f", pictures in [bold]{kept}[/]" if kept.is_dir() else ""
    console.print(f"{len(cases):,} cases in [bold]{to}[/]{pictures}", highlight=False, soft_wrap=True)


def _overlaps(report: CasesReport) -> list[str]:
    return [f"{found.where} shares with {found.suite}: {found.words}" for found in report.overlap]


def _problems(report: CasesReport, console: Console, listed: bool) -> None:
    """listed: whether all of them are written to a file."""
    short = False
    for file, problems in report.problems_of.items():
        for problem in problems[:PROBLEMS]:
            console.print(f"[red]{escape(problem)}[/]", highlight=False, soft_wrap=True)
        if len(problems) > PROBLEMS:
            kinds = Counter(problem_kind(problem, file) for problem in problems).most_common()
            said = " of the same kind" if len(kinds) == 1 else "; all by kind, the most frequent first:"
            more = f"{file}: ... and {len(problems) - PROBLEMS:,} more{said}"
            console.print(f"[red]{escape(more)}[/]", highlight=False, soft_wrap=True)
            for kind, count in kinds[:KINDS] if len(kinds) > 1 else ():
                console.print(f"[red]{count:>9,} x {escape(kind)}[/]", highlight=False, soft_wrap=True)
            if len(kinds) > KINDS:
                console.print(f"[red]          and {len(kinds) - KINDS:,} kinds more[/]", highlight=False)
            short = True
    if short and not listed:
        console.print("all of them: `--problems FILE` writes them, one a line", highlight=False)


def _write_problems(report: CasesReport, to: Path, console: Console) -> None:
    durable.write_atomically(to, "".join(f"{' '.join(problem.splitlines())}\n" for problem in report.problems))
    console.print(f"{len(report.problems):,} problems in [bold]{escape(str(to))}[/]", highlight=False, soft_wrap=True)


def problem_kind(problem: str, file: str) -> str:
    """The problem without its place, and without what differs from line to line: names and numbers."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*", "…", re.sub(rf"^{re.escape(file)}(:\d+)?: ", "", problem))


def _remarks(remarks: Sequence[str], console: Console) -> None:
    for remark in remarks[:SHOWN]:
        console.print(f"[yellow]{escape(remark)}[/]", highlight=False, soft_wrap=True)
    if len(remarks) > SHOWN:
        console.print(f"[yellow]... and {len(remarks) - SHOWN:,} more[/]", highlight=False)


@contextmanager
def _counting(words: str, console: Console) -> Iterator["_Counter"]:
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,}"))
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Counter(progress, progress.add_task(words, total=None))


class _Counter:
    """Shows the count it is called with."""

    def __init__(self, progress: Progress, task: object):
        self.progress, self.task = progress, task

    def __call__(self, count: int) -> None:
        self.progress.update(self.task, completed=count)  # type: ignore[arg-type]
