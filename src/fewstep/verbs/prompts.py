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

from fewstep import durable
from fewstep.data.cases import Case, record_of
from fewstep.data.mixture import Task
from fewstep.data.overlap import suite_prompts
from fewstep.data.prompts import asking, built, edits
from fewstep.data.prompts.diversity import Diversity, measure
from fewstep.data.prompts.questions import Ask, AskEdits, AskPrompts
from fewstep.data.prompts.shown import Shown, pictures
from fewstep.data.prompts.wording import quoted
from fewstep.data.sources import cases_of, entries_of
from fewstep.endpoint.declaration import Endpoint, load
from fewstep.errors import CaseError

ALL = "all"
SAME = {"text-centric": "text"}  # the paper's word
FIGURES: tuple[tuple[str, str, Callable[[Diversity], str]], ...] = (
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
class Order:
    """A set that is wanted. source: the pictures of edits; worn: whether perceptual edits get worn copies."""

    task: Task
    categories: tuple[str, ...]
    count: int
    seed: int
    to: Path
    source: Path | None = None
    shows: str | None = None
    worn: bool = True
    avoid: Path | None = None

    @property
    def record(self) -> Path:
        """Where an endpoint's answers are kept."""
        return self.to.with_name(f"{self.to.stem}.answers.jsonl")

    @property
    def worn_folder(self) -> Path | None:
        return self.to.with_name(f"{self.to.stem}-worn") if self.worn else None


def build_prompts(order: Order, console: Console) -> None:
    """Writes a set out of the grammars, whole or not at all.

    Raises:
        CaseError: a file is there already, the pictures do not do, or the grammar runs out.
    """
    _refuse_taken(order)
    shown, avoided = _material(order)
    began = time.monotonic()
    cases: list[Case] = []
    with _counting(order.count * len(order.categories), console) as seen:
        for category in order.categories:
            cases += _grammar_cases(order, category, shown, avoided, partial(_ahead, seen, len(cases)))
        _write(order.to, cases)
    _told(order, cases, time.monotonic() - began, console)


def ask_prompts(order: Order, declaration: Path, each: int, console: Console) -> None:
    """Writes a set with the help of an endpoint. What it answered is kept as it comes; the same command goes on.

    Raises:
        CaseError: as `build_prompts`, or the record is of another set. EndpointError, DeclarationError: as named.
    """
    if not order.record.exists():
        _refuse_taken(order)
    endpoint = load(declaration)
    endpoint.key()
    shown, avoided = _material(order)
    asks = [_ask(order, category, tuple(shown), each, endpoint) for category in order.categories]
    console.print(f"answers are kept in [bold]{order.record}[/]", highlight=False, soft_wrap=True)
    began = time.monotonic()
    with _spending(order.count * len(asks), console) as seen:
        cases = asking.write(asks, order.count, endpoint, order.record, avoided, seen)
    _write(order.to, cases)
    _told(order, cases, time.monotonic() - began, console)


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
    measured = [measure(prompts) for prompts in groups.values()]
    table = Table("", "", *groups)
    for column in table.columns[2:]:
        column.justify = "right"
    for name, unit, words in FIGURES:
        table.add_row(name, f"[dim]{unit}[/]", *map(words, measured))
    console.print(table)


def categories_of(task: Task, named: Sequence[str]) -> tuple[str, ...]:
    """The categories meant; `all` is all of the task.

    Raises:
        CaseError: one is not known.
    """
    known = built.CATEGORIES if task == "t2i" else edits.CATEGORIES
    found = [SAME.get(name, name) for name in named]
    for name in found:
        if name not in (*known, ALL):
            other = " (that is one of --task edit)" if task == "t2i" and name in edits.CATEGORIES else ""
            raise CaseError(f"category {name!r:.40} is not known{other}; there are {', '.join(known)}, and {ALL}")
    return known if ALL in found else tuple(dict.fromkeys(found))


def _grammar_cases(
    order: Order, category: str, shown: Sequence[Shown], avoided: Sequence[str], seen: Callable[[int], object]
) -> list[Case]:
    if order.task == "t2i":
        return built.build(category, order.count, order.seed, avoided, seen)
    return edits.build(category, shown, order.count, order.seed, order.worn_folder, avoided, seen)


def _ahead(seen: Callable[[int], object], before: int, count: int) -> None:
    seen(before + count)


def _ask(order: Order, category: str, shown: tuple[Shown, ...], each: int, endpoint: Endpoint) -> Ask:
    if order.task == "t2i":
        return AskPrompts(category, order.seed, each)
    edits.fitting(category, shown)
    return AskEdits(category, shown, order.seed, each, order.worn_folder, endpoint.max_side)


def _material(order: Order) -> tuple[list[Shown], list[str]]:
    """The pictures of edits, and the benchmark's prompts."""
    shown = pictures(order.source, order.shows) if order.source is not None else []
    for category in order.categories if order.task == "edit" else ():
        edits.fitting(category, shown)
    return shown, [prompt for _, prompt in suite_prompts(order.avoid)] if order.avoid is not None else []


def _refuse_taken(order: Order) -> None:
    if order.to.suffix.lower() != ".jsonl":
        raise CaseError(f"{order.to}: cases are written as JSON Lines; give --to a name that ends in .jsonl")
    if order.to.exists():
        raise CaseError(f"{order.to} is there already; take it away, or choose another --to")


def _write(path: Path, cases: Sequence[Case]) -> None:
    """The canonical file, whole or absent. What the text of a prompt says stands beside it as expect.text: a suite made
    of such cases knows what should be readable."""
    durable.make_folder(path.parent)
    records = (record_of(case, path.parent) | _expected(case) for case in cases)
    durable.write(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))


def _expected(case: Case) -> dict[str, object]:
    written = quoted(case.prompt) if case.task == "t2i" and case.category == "text" else []
    return {"expect": {"text": written}} if written else {}


def _told(order: Order, cases: Sequence[Case], seconds: float, console: Console) -> None:
    worn = order.worn_folder
    copies = f", worn copies in [bold]{worn}[/]" if worn is not None and worn.is_dir() else ""
    what = "edits" if order.task == "edit" else "prompts"
    words = f"{len(cases):,} distinct {what} in [bold]{order.to}[/]{copies}, {seconds:.1f} s"
    console.print(f"{words}\nhow varied they are: fewstep prompts report {order.to}", highlight=False, soft_wrap=True)


@contextmanager
def _counting(total: int, console: Console) -> Iterator[Callable[[int], None]]:
    with _bar("{task.completed:,.0f} of {task.total:,.0f}", console) as progress:
        row = progress.add_task("", total=total)
        yield lambda count: progress.update(row, completed=count) if count % 50 == 0 or count == total else None


@contextmanager
def _spending(total: int, console: Console) -> Iterator[Callable[[asking.Tally], None]]:
    """One line: how far, what it took, what it cost, and what the rest will cost at this rate."""
    with _bar("{task.completed:,.0f} of {task.total:,.0f}  {task.description}", console) as progress:
        row = progress.add_task("", total=total)
        yield lambda tally: progress.update(row, completed=tally.kept, description=_line(tally))


def _line(tally: asking.Tally) -> str:
    parts = [f"{tally.requests:,} requests", f"{tally.tokens:,} tokens"]
    if tally.cost is not None:
        left = tally.cost / tally.kept * (tally.wanted - tally.kept) if tally.kept else 0.0
        parts.append(f"cost {tally.cost:.2f}" + (f", about {left:.2f} to go" if left else ""))
    parts += [f"{tally.dropped:,} repeated"] if tally.dropped else []
    parts += [f"{tally.spoilt:,} unusable"] if tally.spoilt else []
    return ", ".join(parts)


def _bar(words: str, console: Console) -> Progress:
    return Progress(BarColumn(), TextColumn(words), TimeElapsedColumn(), console=console)
