"""What a judge said of one set of answers: of the teacher's, or of the student's after some iteration.

    examination/judge/teacher.json student-000100.json

A figure is the mean score of a task's pictures. It is there only when every question about them has been answered, and
99 % of the pictures have a score: what a judge refuses may be the worst. It is counted and never guessed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.bench import statistics
from fewstep.bench.attempts import Attempts
from fewstep.bench.coverage import ENOUGH
from fewstep.bench.judge_requests import JudgeRequest
from fewstep.run.self_exam.exam_cases import FrozenSet
from fewstep.run.self_exam.plan import JUDGE

OUTSTANDING, NO_PICTURE = "outstanding", "no picture"


def judgement(exam: FrozenSet, judge: str, wanted: Sequence[JudgeRequest], attempts: Attempts) -> dict[str, Any]:
    """The record of one set of answers, from the attempts that count.

    Args:
        judge: its name.
        wanted: the questions about these answers. A picture that is not there has none.
    """
    records = _records(exam, wanted, attempts)
    figures, band, missing = {}, {}, {}
    for task in exam.tasks:
        rows = [record for record in records if record["task"] == task]
        why = _why_missing(rows)
        if why is not None:
            missing[f"{task}.{JUDGE}"] = why
            continue
        scored = [row for row in rows if row["score"] is not None]
        found = statistics.mean([row["score"] for row in scored], [row["case"] for row in scored])
        assert found.value is not None, "there are scores"
        figures[f"{task}.{JUDGE}"] = found.value
        band[f"{task}.{JUDGE}"] = {"value": found.value, "low": found.low, "high": found.high}
    told = {"set": exam.identity, "judge": judge, "figures": figures, "band": band, "missing": missing}
    return {**told, "records": records}


def _records(exam: FrozenSet, wanted: Sequence[JudgeRequest], attempts: Attempts) -> list[dict[str, Any]]:
    """A record for each picture that the set asks for: its score, and the status of every question about it."""
    asked: dict[tuple[str, int], list[JudgeRequest]] = {}
    for request in wanted:
        asked.setdefault((request.question.about["case"], request.question.about["seed"]), []).append(request)
    found = []
    for one in exam.cases:
        for seed in one.seeds:
            held = [attempts.result_of(request.request_key) for request in asked.get((one.case.id, seed), [])]
            statuses = [OUTSTANDING if each is None else str(each["status"]) for each in held] or [NO_PICTURE]
            scores = [each["score"] for each in held if each is not None and each.get("score") is not None]
            score = sum(scores) / len(scores) if scores else None
            about = {"case": one.case.id, "task": one.case.task, "seed": seed}
            found.append({**about, "score": score, "statuses": statuses})
    return found


def _why_missing(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a task has no figure, in words; None if it has one."""
    statuses = Counter(status for row in rows for status in row["statuses"])
    if statuses[OUTSTANDING]:
        return f"{statuses[OUTSTANDING]} of {statuses.total()} answers are outstanding"
    scored = sum(row["score"] is not None for row in rows)
    if scored >= ENOUGH * len(rows):
        return None
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if status != "ok")
    return f"{len(rows) - scored} of {len(rows)} pictures have no score ({counts})"
