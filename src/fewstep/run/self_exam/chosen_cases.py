"""Which cases a run examines itself with: from shipped suites, suites in folders, or files of cases."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewstep.bench.shipped import is_shipped
from fewstep.bench.suite import Suite, seed_of
from fewstep.bench.suite_files import HEADING
from fewstep.bench.suites import open_suite
from fewstep.data.cases import Case
from fewstep.data.sources import cases_of, entries_of
from fewstep.run.self_exam.exam_cases import ExamCase
from fewstep.run.self_exam.plan import ExaminePlan
from fewstep.runtime.errors import CaseError, RecipeError, SuiteError
from fewstep.runtime.task import Task

QUOTED = re.compile('"([^"]{1,80})"|“([^”]{1,80})”|„([^“”]{1,80})[“”]|«([^»]{1,80})»|「([^」]{1,80})」')


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
