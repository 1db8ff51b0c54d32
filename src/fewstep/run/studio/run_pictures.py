"""The pictures of a run, sorted by case: what is shown beside each other, and what the slider changes.

Two groups. The frozen set of the run's own examinations has prompts, sources, seeds and figures. The sample previews
have what `samples/cases.json` tells, or numbers alone in runs of earlier versions.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.run.self_exam.exam_cases import ExamCase, FrozenSet, frozen_set
from fewstep.runtime.errors import FewstepError
from fewstep.sample.origin import origin_of

STUDENT = re.compile(r"student-(\d{6,12})")
PREVIEW = re.compile(r"student-(\d{6,12})-(\d{2,4})\.png")


def picture_groups(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The groups that have pictures, and what could not be read.

    A group: title, note, moments (iterations with pictures of the student), cases. A case: id, prompt, task, category,
    seed and size (height, width) if known, source (paths in the run), fixed ({label, path} of what does not change),
    student (a path that holds `{moment}`, six digits wide).
    """
    faults: list[str] = []
    found = [_examination(folder, faults), _previews(folder)]
    return [group for group in found if group is not None and group["cases"]], faults


def _examination(folder: Path, faults: list[str]) -> dict[str, Any] | None:
    try:
        exam = frozen_set(folder)
    except FewstepError as error:
        faults.append(str(error))
        return None
    if exam is None:
        return None
    whos = sorted(_names(folder / "examination" / "pictures"))
    moments = [int(found[1]) for who in whos if (found := STUDENT.fullmatch(who))]
    others = [who for who in whos if not STUDENT.fullmatch(who)]
    drawn = {who: _names(folder / "examination" / "pictures" / who) for who in others}
    cases = [_exam_case(exam, one, seed, drawn) for one in exam.cases for seed in one.seeds]
    note = (
        "From one noise: the teachers at their full sampler, the same at the student's steps, and the averaged student."
    )
    return {"title": "Frozen set", "key": "exam", "note": note, "moments": sorted(moments), "cases": cases}


def _exam_case(exam: FrozenSet, one: ExamCase, seed: int, drawn: Mapping[str, set[str]]) -> dict[str, Any]:
    name = f"{one.stem}-{seed}.png"
    fixed = [
        {"label": who.replace("-", " "), "path": f"examination/pictures/{who}/{name}"}
        for who, names in drawn.items()
        if name in names
    ]
    source = [_inside(path, exam.folder.parent) for path in one.case.references]
    told = {"id": one.case.id, "prompt": one.case.prompt, "task": one.case.task, "category": one.case.category}
    student = f"examination/pictures/student-{{moment}}/{name}"
    size = None if one.case.height is None or one.case.width is None else [one.case.height, one.case.width]
    return {
        **told,
        "seed": seed,
        "size": size,
        "source": [path for path in source if path],
        "fixed": fixed,
        "student": student,
    }


def _previews(folder: Path) -> dict[str, Any] | None:
    names = _names(folder / "samples" / "pictures")
    found = [match for name in names if (match := PREVIEW.fullmatch(name))]
    if not found:
        return None
    told = _told(folder)
    cases = [_preview_case(folder, number, told, names) for number in sorted({match[2] for match in found})]
    moments = sorted({int(match[1]) for match in found})
    note = "Cases of the training data, each from one noise."
    return {"title": "Previews", "key": "preview", "note": note, "moments": moments, "cases": cases}


def _preview_case(folder: Path, number: str, told: Sequence[Mapping[str, Any]], names: set[str]) -> dict[str, Any]:
    own = told[int(number)] if int(number) < len(told) else {}
    pictures = folder / "samples" / "pictures"
    taught = [name for who in ("teacher", "few") if (name := f"{who}-{number}.png") in names]
    fixed = [{"label": origin_of(pictures / name) or "teacher", "path": f"samples/pictures/{name}"} for name in taught]
    sources = sorted(name for name in names if re.fullmatch(rf"source-{number}-\d+\.png", name))
    return {
        "id": str(own.get("id", f"case {int(number) + 1}")),
        "prompt": str(own.get("prompt", "")),
        "task": str(own.get("task", "")),
        "category": str(own.get("category") or ""),
        "seed": own["seed"] if isinstance(own.get("seed"), int) else int(number),  # as versions drew that told none
        "size": own["size"] if _is_size(own.get("size")) else None,
        "source": [f"samples/pictures/{name}" for name in sources],
        "fixed": fixed,
        "student": f"samples/pictures/student-{{moment}}-{number}.png",
    }


def _is_size(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(isinstance(each, int) and each > 0 for each in given)


def _told(folder: Path) -> list[Mapping[str, Any]]:
    try:
        held = json.loads((folder / "samples" / "cases.json").read_text())
    except (OSError, ValueError):
        return []
    return [each if isinstance(each, dict) else {} for each in held] if isinstance(held, list) else []


def _inside(path: Path, folder: Path) -> str | None:
    try:
        return path.absolute().relative_to(folder.absolute()).as_posix()
    except ValueError:
        return None


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".")}
    except OSError:
        return set()
