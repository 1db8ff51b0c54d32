"""The cases that a run examines itself with: chosen from suites or files, then frozen in the run folder.

    examination/set.json       what was chosen, and how many of it; written last
    examination/cases.jsonl    a line for each case: the case, its seeds, and the words that its prompt puts in quotes
    examination/references/    copies of the pictures that edits start from

A run that goes on, and everyone who looks at it later, reads this folder and no longer the suite.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewstep.bench.shipped import is_shipped
from fewstep.bench.suite import Suite, seed_of
from fewstep.bench.suite_files import HEADING
from fewstep.bench.suites import open_suite
from fewstep.data.cases import Case, case_of, record_of
from fewstep.data.pictures import file_digest
from fewstep.data.sources import cases_of, entries_of
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.run.self_exam.ranked import FOLDER
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError, RecipeError, RunError, SuiteError
from fewstep.runtime.task import Task

FORMAT = 1
SET, CASES = "set.json", "cases.jsonl"
QUOTED = re.compile('"([^"]{1,80})"|“([^”]{1,80})”|„([^“”]{1,80})[“”]|«([^»]{1,80})»|「([^」]{1,80})」')


@dataclass(frozen=True)
class ExamCase:
    """One case, the seeds that it is drawn with, and the words that must be read in the answer."""

    case: Case
    seeds: tuple[int, ...]
    text: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Names its files."""
        plain = re.sub(r"[^\w.-]", "-", self.case.id)[:80]
        return f"{plain}-{hashlib.blake2b(self.case.id.encode(), digest_size=3).hexdigest()}"


def exam_cases(plan: ExaminePlan, tasks: Sequence[Task], cache: Path) -> tuple[ExamCase, ...]:
    """The cases of a recipe's section, in the order of its suites: each category comes once before any comes twice.

    Args:
        tasks: those of the recipe; others are not examined.
        cache: folder for pictures out of archives.

    Raises:
        RecipeError: a suite or a file that cannot be used, or has no such cases; one line, with the key.
    """
    found: list[ExamCase] = []
    for task, (source, count) in plan.sources(tasks).items():
        try:
            named = list(_of_source(source, task, cache))
        except (SuiteError, CaseError) as error:
            raise RecipeError(f"examine.{task}: {error}") from error
        seeds = plan.seeds if task == "t2i" else 1
        for case, text in named[:count]:
            found.append(ExamCase(case, tuple(seed_of(case.id, k) for k in range(seeds)), text))
    twice = {one.case.id for one in found if sum(other.case.id == one.case.id for other in found) > 1}
    if twice:
        raise RecipeError(f"examine: id {min(twice)!r:.60} stands for a prompt and for an edit; ids are unique")
    return tuple(found)


def _of_source(source: str, task: Task, cache: Path) -> Iterator[tuple[Case, tuple[str, ...]]]:
    if is_shipped(source) or (Path(source) / HEADING).is_file():
        suite = open_suite(source)
        if suite.task != task:
            kind = "edits, with pictures" if task == "edit" else "prompts alone"
            raise SuiteError(f"suite {suite.name} is of task {suite.task}, and {kind} are needed here; name another")
        yield from (
            (_sized(question.case, suite), _lines(question.expect, question.case)) for question in suite.questions
        )
        return
    cases = [case for case in cases_of(entries_of(source, cache), source) if case.task == task]
    if not cases:
        needed = "edits with pictures under 'reference_images'" if task == "edit" else "prompts without pictures"
        raise CaseError(f"{source} has no {needed}; name another file or suite, or set examine.{task}: null")
    yield from ((case, quoted_words(case.prompt)) for case in in_turn(cases))


def in_turn(cases: Iterable[Case]) -> list[Case]:
    """The first of each category, then the second of each, and so on."""
    by_category: dict[str, list[Case]] = {}
    for case in cases:
        by_category.setdefault(case.category, []).append(case)
    most = max(map(len, by_category.values()), default=0)
    return [row[n] for n in range(most) for row in by_category.values() if n < len(row)]


def quoted_words(prompt: str) -> tuple[str, ...]:
    """What a prompt puts in quotation marks, in order. Apostrophes are none."""
    return tuple(word.strip() for groups in QUOTED.findall(prompt) for word in groups if word.strip())


def _lines(expect: Any, case: Case) -> tuple[str, ...]:
    lines = expect.get("text")
    return quoted_words(case.prompt) if lines is None else tuple(map(str, lines))


def _sized(case: Case, suite: Suite) -> Case:
    if case.height is not None or suite.size is None:
        return case
    return replace(case, height=suite.size[0], width=suite.size[1])


# ---- in the run folder


@dataclass(frozen=True)
class FrozenSet:
    """The set of one run. identity: a hash of its cases, the bytes of their pictures, and their seeds."""

    folder: Path
    cases: tuple[ExamCase, ...]

    @property
    def identity(self) -> str:
        return identity_of(self.cases)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(dict.fromkeys(one.case.task for one in self.cases))

    @property
    def pictures(self) -> int:
        """How many one examination draws."""
        return sum(len(one.seeds) for one in self.cases)


def identity_of(cases: Sequence[ExamCase]) -> str:
    told = [
        (one.seeds, case.id, case.task, case.prompt, case.category, case.height, case.width, *digests)
        for one in cases
        for case, digests in ((one.case, map(file_digest, one.case.references)),)
    ]
    return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


def freeze(run: Path, cases: Sequence[ExamCase], asked: str) -> FrozenSet:
    """Writes the set into the run folder, once; later it is read from there.

    Args:
        asked: what the recipe asked for, in a form that can be compared.

    Raises:
        RunError: as `frozen_set`.
    """
    held = frozen_set(run, asked)
    if held is not None:
        return held
    folder = run / FOLDER
    kept = [_kept(one, folder) for one in cases]
    lines = [{"case": record_of(one.case, folder), "seeds": one.seeds, "text": one.text} for one in kept]
    durable.make_folder(folder)
    durable.write_atomically(folder / CASES, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    told = {"format": FORMAT, "identity": identity_of(kept), "cases": len(kept), "asked": asked}
    durable.write_atomically(folder / SET, json.dumps(told, indent=1) + "\n")
    return FrozenSet(folder, tuple(kept))


def frozen_set(run: Path, asked: str | None = None) -> FrozenSet | None:
    """The set in a run folder; None if it has none.

    Args:
        asked: what a recipe asks for now; None takes whatever is there.

    Raises:
        RunError: it cannot be read, is not as it was written, or something else was asked for when the run began.
            Figures of two sets could not be compared.
    """
    folder = run / FOLDER
    if not (folder / SET).is_file():
        return None
    try:
        told = json.loads((folder / SET).read_text())
        lines = list(durable.read_jsonl(folder / CASES))
        cases = [_read(line, folder, f"{folder / CASES}:{n}") for n, line in enumerate(lines, 1)]
        found = FrozenSet(folder, tuple(cases))
        whole, same = told["identity"] == found.identity, asked is None or told["asked"] == asked
    except (ValueError, KeyError, TypeError, CaseError) as error:
        raise RunError(f"{folder} cannot be read ({error}); remove that folder, and the set is frozen again") from error
    if not whole:
        raise RunError(f"{folder} is not as it was written; restore it, or remove it and the set is frozen again")
    if not same:
        raise RunError(
            f"{folder} holds the set that this run began with ({len(found.cases)} cases), and examine now asks for "
            "another (t2i, edit, prompts, edits or seeds); put it back, or remove that folder and begin a new set"
        )
    return found


def _kept(one: ExamCase, folder: Path) -> ExamCase:
    """The case with its pictures in the run folder, byte by byte, named by their content."""
    places = []
    for path in one.case.references:
        place = folder / "references" / f"{file_digest(path)}{path.suffix.lower()}"
        durable.make_folder(place.parent)
        if not place.is_file():
            durable.write_atomically(place, path.read_bytes())
        places.append(place)
    return replace(one, case=replace(one.case, references=tuple(places), target=None))


def _read(line: Any, folder: Path, where: str) -> ExamCase:
    case = case_of(line["case"], folder, where, "")
    return ExamCase(case, tuple(map(int, line["seeds"])), tuple(map(str, line["text"])))
