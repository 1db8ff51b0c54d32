"""The files of an examination: results by iteration, what is known of the teachers' answers, and what a judge said.

A judge answers later than the rest is found, and its answers have files of their own (`judgements.py`). Whoever reads
results gets both together.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewstep.run.self_exam.plan import JUDGE
from fewstep.runtime import durable
from fewstep.runtime.errors import RunError

RESULTS, TEACHER_FILE, JUDGE_FOLDER = "results", "teacher.json", "judge"
TEACHER = "teacher"  # who answered: the teachers at their full sampler
FEW = re.compile(r"teacher-at-(\d+)")


def few_name(steps: int) -> str:
    """Who answered: the teachers at as many steps as the student has, without guidance."""
    return f"{TEACHER}-at-{steps}"


def student_name(iteration: int) -> str:
    """Who answered, after so many iterations."""
    return f"student-{iteration:06d}"


def read_results(folder: Path) -> dict[int, dict[str, Any]]:
    """The results of an examination folder by iteration, in order, with a judge's as far as they have come; what cannot
    be read is left out."""
    found = {}
    for path in sorted((folder / RESULTS).glob("*.json")) if (folder / RESULTS).is_dir() else []:
        held = read_json_file(path)
        if held is not None and isinstance(held.get("iteration"), int):
            found[held["iteration"]] = _judged(held, folder, student_name(held["iteration"]))
    return found


def read_teacher(folder: Path) -> dict[str, Any] | None:
    """What is known of the teachers' answers, a judge's scores too; None if they were not measured yet."""
    held = read_json_file(folder / TEACHER_FILE)
    return None if held is None else _judged(held, folder, TEACHER)


def read_few(folder: Path) -> dict[str, Any] | None:
    """What is known of the teachers' answers at the student's few steps: `steps`, and `figures` as of a student. None
    if they were not measured: by a version that did not draw them, or not yet."""
    found = sorted(folder.glob(f"{TEACHER}-at-*.json")) if folder.is_dir() else []
    held = [read_json_file(path) or {} for path in found if FEW.fullmatch(path.stem)]
    whole = (one for one in held if isinstance(one.get("steps"), int) and isinstance(one.get("figures"), dict))
    return next(whole, None)


def judgement_path(folder: Path, who: str) -> Path:
    return folder / JUDGE_FOLDER / f"{who}.json"


def _judged(held: dict[str, Any], folder: Path, who: str) -> dict[str, Any]:
    """What was measured, with what a judge said of the same answers. Scores of a task without a figure are left out,
    since they are not all there."""
    told = read_json_file(judgement_path(folder, who))
    if told is None or told.get("set") != held.get("set"):
        return held
    scores = {(r["case"], r["seed"]): r["score"] for r in told["records"] if f"{r['task']}.{JUDGE}" in told["figures"]}
    records = [_scored(record, scores.get((record["case"], record["seed"]))) for record in held["records"]]
    keys = ("band",) if who == TEACHER else ("figures", "missing")
    return {**held, "records": records, **{key: {**held[key], **told[key]} for key in keys}}


def _scored(record: dict[str, Any], score: float | None) -> dict[str, Any]:
    if score is None:
        return record
    return {**record, "values": {**record["values"], f"score_{JUDGE}": score}}


def read_json_file(path: Path) -> dict[str, Any] | None:
    try:
        held = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it, and it is made again") from error
    return held if isinstance(held, dict) else None


def write_json_file(path: Path, told: Mapping[str, Any]) -> None:
    durable.make_folder(path.parent)
    durable.write_atomically(path, json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n")
