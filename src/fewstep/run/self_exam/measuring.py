"""The figures of one set of answers: each rank measures what it drew, and the records come together."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.bench.metrics.metric import Pixels
from fewstep.bench.paired.picture_pair import AnswerPair, measure_pair, seeds_distance
from fewstep.data.pictures import open_picture
from fewstep.run.self_exam.drawing import ExamDrawer
from fewstep.run.self_exam.exam_cases import ExamCase
from fewstep.run.self_exam.records import ExamRecord
from fewstep.run.self_exam.results import TEACHER
from fewstep.runtime.errors import CaseError

MOST_WORKERS = 8  # threads, ours


def measure_answers(drawer: ExamDrawer, who: str, cases: Sequence[ExamCase]) -> list[ExamRecord]:
    """The records of these cases, as `who` answered them. A megapixel takes about three seconds on one processor, so
    several cases are measured at once; the GPU waits meanwhile."""
    workers = max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) // drawer.ranks.per_machine))
    with ThreadPoolExecutor(workers) as pool:
        return [record for records in pool.map(lambda one: _of_case(drawer, who, one), cases) for record in records]


def _of_case(drawer: ExamDrawer, who: str, one: ExamCase) -> list[ExamRecord]:
    answers = {seed: _pixels(drawer.picture(who, one, seed)) for seed in one.seeds}
    taught = {seed: _pixels(drawer.picture(TEACHER, one, seed)) for seed in one.seeds}
    source = open_picture(one.case.references[-1], one.case.where).convert("RGB") if one.case.references else None
    apart = _seeds(answers, taught) if len(one.seeds) > 1 else {}
    return [_record(one, seed, answers[seed], taught[seed], source, apart) for seed in one.seeds]


def _record(
    one: ExamCase, seed: int, answer: Pixels | None, taught: Pixels | None, source: Any, apart: dict[str, float]
) -> ExamRecord:
    about = one.case.id, one.case.task, one.case.category, seed
    if answer is None or taught is None:
        whose = "the student's answer" if answer is None else "the teacher's answer"
        return ExamRecord(*about, {}, {"picture": f"{whose} was not finite, or its file is gone"})
    found = measure_pair(AnswerPair(answer, taught, source, one.text))
    return ExamRecord(*about, found.values | apart, found.missing)


def _seeds(answers: dict[int, Pixels | None], taught: dict[int, Pixels | None]) -> dict[str, float]:
    """Distances between the case's seeds. other_*: of the teacher's seeds to each other, what chance alone gives."""
    drawn, whole = ([x for x in each.values() if x is not None] for each in (answers, taught))
    if len(drawn) < len(answers) or len(whole) < len(taught):
        return {}
    return {"seeds": seeds_distance(drawn), "teacher_seeds": seeds_distance(whole)}


def _pixels(path: Path) -> Pixels | None:
    if not path.is_file():
        return None
    try:
        return np.asarray(open_picture(path, str(path)).convert("RGB"))
    except CaseError:
        return None
