"""What `fewstep prompts` does and prints: sets of prompts and of edit instructions, and how varied they are."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fewstep.data.cases import Case, record_of
from fewstep.data.overlap import suite_prompts
from fewstep.data.prompts import (
    grammar_edits,
    grammar_prompts,
    prompt_writer,
)
from fewstep.data.prompts.diversity import PromptDiversity, prompt_diversity
from fewstep.data.prompts.edit_source import EditSource
from fewstep.data.prompts.edit_sources import read_edit_sources
from fewstep.data.prompts.prompt_requests import (
    CategoryRequests,
    EditRequests,
    T2IRequests,
)
from fewstep.data.prompts.wording import quoted
from fewstep.data.sources import cases_of, entries_of
from fewstep.endpoint.declaration import Endpoint, load_endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError
from fewstep.runtime.task import Task

ALL = "all"
SAME = {"text-centric": "text"}  # the paper's word
FIGURES: tuple[tuple[str, str, Callable[[PromptDiversity], str]], ...] = (
    ("prompts", "", lambda d: f"{d.prompts:,}"),
    ("distinct", "share", lambda d: f"{d.distinct:.4f}"),
    ("nearly repeated", "share", lambda d: f"{d.near:.4f}"),
    ("vocabulary", "different words", lambda d: f"{d.vocabulary:,}"),
    ("type-token ratio", "of the whole set", lambda d: f"{d.type_token:.4f}"),
    ("type-token ratio", "mean of windows of 500 words", lambda d: f"{d.type_token_500:.3f}"),
    ("distinct trigrams", "share of all", lambda d: f"{d.distinct_3:.3f}"),
    ("pairwise overlap", "mean Jaccard of trigrams", lambda d: f"{d.overlap:.4f}"),
    ("pairwise overlap", "largest in the sample", lambda d: f"{d.overlap_most:.2f}"),
    ("commonest opening", "share, four words", lambda d: f"{d.opening:.3f}"),
    ("words", "least / median / 90 % / most", lambda d: " / ".join(map(str, d.words))),
)


@dataclass(frozen=True)
class PromptSetSpec:
    """The prompt set to write. source: the pictures of edits; degraded: whether perceptual edits get degraded
    copies."""

    task: Task
    categories: tuple[str, ...]
    count: int
    seed: int
    to: Path
    source: Path | None = None
    shows: str | None = None
    degraded: bool = True
    avoid: Path | None = None

    @property
    def record(self) -> Path:
        """The file of an endpoint's answers."""
        return self.to.with_name(f"{self.to.stem}.answers.jsonl")

    @property
    def degraded_folder(self) -> Path | None:
        return self.to.with_name(f"{self.to.stem}-worn") if self.degraded else None


def build_prompts(spec: PromptSetSpec, console: Console) -> None:
    """Writes a set from the grammars, whole or not at all.

    Raises:
        CaseError: the file exists already, the pictures cannot be used, or the grammar has no new text left.
    """
    refuse_written(spec.to)
    shown, avoided = _material(spec)
    began = time.monotonic()
    cases: list[Case] = []
    with _counting(spec.count * len(spec.categories), console) as seen:
        for category in spec.categories:
            cases += _grammar_cases(spec, category, shown, avoided, partial(_ahead, seen, len(cases)))
        _write(spec.to, cases)
    _print_summary(spec, cases, time.monotonic() - began, console)


def ask_prompts(spec: PromptSetSpec, declaration: Path, each: int, console: Console) -> None:
    """Writes a set with an endpoint. Answers are stored as they come; the same command continues.

    Raises:
        CaseError: as `build_prompts`, or the record is of another set.
        EndpointError, DeclarationError: the endpoint or its file cannot be used.
    """
    if not spec.record.exists():
        refuse_written(spec.to)
    endpoint = load_endpoint(declaration)
    endpoint.key()
    shown, avoided = _material(spec)
    asks = [_ask(spec, category, tuple(shown), each, endpoint) for category in spec.categories]
    console.print(f"answers are kept in [bold]{spec.record}[/]", highlight=False, soft_wrap=True)
    began = time.monotonic()
    with spending_bar(spec.count * len(asks), console) as seen:
        cases = prompt_writer.write_prompts(asks, spec.count, endpoint, spec.record, avoided, seen)
    _write(spec.to, cases)
    _print_summary(spec, cases, time.monotonic() - began, console)


def report_prompts(source: str, console: Console) -> None:
    """Prints how varied the prompts of a file are, by category.

    Raises:
        CaseError: the file cannot be read, or has too few prompts.
    """
    cases = cases_of(entries_of(source, Path(f"{source}-pictures")), source)
    by_category: dict[str, list[str]] = {}
    for case in cases:
        by_category.setdefault(case.category, []).append(case.prompt)
    groups = {name: prompts for name, prompts in sorted(by_category.items()) if len(prompts) > 1}
    if not groups:
        raise CaseError(
            f"{source}: {len(cases)} prompts; give at least two of one category, there is nothing to compare"
        )
    measured = [prompt_diversity(prompts) for prompts in groups.values()]
    table = Table("", "", *groups)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, unit, words in FIGURES:
        table.add_row(name, f"[dim]{unit}[/]", *map(words, measured))
    console.print(table)


def selected_categories(task: Task, named: Sequence[str]) -> tuple[str, ...]:
    """The selected categories; `all` means all of the task.

    Raises:
        CaseError: one is unknown.
    """
    known = grammar_prompts.CATEGORIES if task == "t2i" else grammar_edits.CATEGORIES
    found = [SAME.get(name, name) for name in named]
    for name in found:
        if name not in (*known, ALL):
            other = " (that is one of --task edit)" if task == "t2i" and name in grammar_edits.CATEGORIES else ""
            raise CaseError(f"category {name!r:.40} is not known{other}; there are {', '.join(known)}, and {ALL}")
    return known if ALL in found else tuple(dict.fromkeys(found))


def _grammar_cases(
    spec: PromptSetSpec,
    category: str,
    shown: Sequence[EditSource],
    avoided: Sequence[str],
    seen: Callable[[int], object],
) -> list[Case]:
    if spec.task == "t2i":
        return grammar_prompts.prompts_from_grammar(category, spec.count, spec.seed, avoided, seen)
    return grammar_edits.edits_from_grammar(category, shown, spec.count, spec.seed, spec.degraded_folder, avoided, seen)


def _ahead(seen: Callable[[int], object], before: int, count: int) -> None:
    seen(before + count)


def _ask(
    spec: PromptSetSpec, category: str, shown: tuple[EditSource, ...], each: int, endpoint: Endpoint
) -> CategoryRequests:
    if spec.task == "t2i":
        return T2IRequests(category, spec.seed, each)
    grammar_edits.fitting_sources(category, shown)
    return EditRequests(category, shown, spec.seed, each, spec.degraded_folder, endpoint.max_side)


def _material(spec: PromptSetSpec) -> tuple[list[EditSource], list[str]]:
    """The pictures of edits, and the benchmark's prompts."""
    shown = read_edit_sources(spec.source, spec.shows) if spec.source is not None else []
    for category in spec.categories if spec.task == "edit" else ():
        grammar_edits.fitting_sources(category, shown)
    return shown, [prompt for _, prompt in suite_prompts(spec.avoid)] if spec.avoid is not None else []


def refuse_written(to: Path) -> None:
    """
    Raises:
        CaseError: the file to write exists, or its name does not end in .jsonl.
    """
    if to.suffix.lower() != ".jsonl":
        raise CaseError(f"{to}: cases are written as JSON Lines; give --to a name that ends in .jsonl")
    if to.exists():
        raise CaseError(f"{to} is there already; take it away, or choose another --to")


def _write(path: Path, cases: Sequence[Case]) -> None:
    """Writes the canonical file, whole or not at all. Words that a prompt quotes are also written as expect.text, so a
    suite made of such cases knows what should be readable."""
    durable.make_folder(path.parent)
    records = (record_of(case, path.parent) | _expected(case) for case in cases)
    durable.write_atomically(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))


def _expected(case: Case) -> dict[str, object]:
    written = quoted(case.prompt) if case.task == "t2i" and case.category == "text" else []
    return {"expect": {"text": written}} if written else {}


def _print_summary(spec: PromptSetSpec, cases: Sequence[Case], seconds: float, console: Console) -> None:
    degraded = spec.degraded_folder
    copies = f", worn copies in [bold]{degraded}[/]" if degraded is not None and degraded.is_dir() else ""
    what = "edits" if spec.task == "edit" else "prompts"
    words = f"{len(cases):,} distinct {what} in [bold]{spec.to}[/]{copies}, {seconds:.1f} s"
    console.print(f"{words}\nhow varied they are: fewstep prompts report {spec.to}", highlight=False, soft_wrap=True)


@contextmanager
def _counting(total: int, console: Console) -> Iterator[Callable[[int], None]]:
    with _bar("{task.completed:,.0f} of {task.total:,.0f}", console) as progress:
        row = progress.add_task("", total=total)
        yield lambda count: progress.update(row, completed=count) if count % 50 == 0 or count == total else None


@contextmanager
def spending_bar(total: int, console: Console) -> Iterator[Callable[[prompt_writer.WritingProgress], None]]:
    """One line: how many are done, the requests and cost so far, and the cost of the rest at this rate."""
    with _bar("{task.completed:,.0f} of {task.total:,.0f}  {task.description}", console) as progress:
        row = progress.add_task("", total=total)
        yield lambda tally: progress.update(row, completed=tally.kept, description=_line(tally))


def _line(tally: prompt_writer.WritingProgress) -> str:
    parts = [f"{tally.requests:,} requests", f"{tally.tokens:,} tokens"]
    if tally.cost is not None:
        left = tally.cost / tally.kept * (tally.wanted - tally.kept) if tally.kept else 0.0
        parts.append(f"cost {tally.cost:.2f}" + (f", about {left:.2f} to go" if left else ""))
    parts += [f"{tally.dropped:,} repeated"] if tally.dropped else []
    parts += [f"{tally.spoilt:,} unusable"] if tally.spoilt else []
    return ", ".join(parts)


def _bar(words: str, console: Console) -> Progress:
    return Progress(BarColumn(), TextColumn(words), TimeElapsedColumn(), console=console)
