"""A study of two cells that takes seconds, and folders of made-up verdicts."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewstep.study import plan
from fewstep.study.folder import StudyFolder, begin_study
from fewstep.study.grid import resolve_grid
from fewstep.study.run import covers

TINY: dict[str, Any] = {
    "name": "tiny",
    "question": "Does an edit now and then hurt?",
    "axis": ["tasks"],
    "seeds": [0],
    "worlds": {
        "pocket": {
            "recipe": "pocket",
            "budget": {"iterations": 2, "batch": 4},
            "set": {
                "data.t2i": [{"source": "pocket:t2i:6"}],
                "data.edit": [{"source": "pocket:edit:6"}],
                "run.save_every_iterations": 1,
                "run.precision": "fp32",
                "student.adapter": {"rank": 2, "alpha": 2},
                "critic.adapter": {"rank": 2, "alpha": 2},
                "critic.updates": 1,
            },
            "teachers": ["base"],
        }
    },
    "cells": {"none": {"set": {"tasks": {"t2i": 1, "edit": 0}}}, "even": {"set": {"tasks": {"t2i": 1, "edit": 1}}}},
    "protocol": {"cases": 1, "tasks": ["t2i"], "moments": [0.5], "teacher_steps": 2},
    "figures": [
        {"name": "grid", "kind": "grid", "task": "t2i", "each": 1, "title": "All cells"},
        {"name": "moments", "kind": "moments", "task": "t2i", "each": 1, "title": "On the way"},
    ],
}

Score = Callable[[str, int, str, str, int], float]  # row, run seed, task, category, case


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The tiny study with some keys at other values; slashes lead inwards, None takes a key away."""
    told: dict[str, Any] = json.loads(json.dumps(TINY))
    for key, value in changes:
        *path, last = key.split("/")
        here = told
        for part in path:
            here = here[int(part) if isinstance(here, list) else part]
        if value is None:
            del here[last]
        else:
            here[last] = value
    return told


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., str]:
    """Writes the tiny study, changed, and gives its path."""

    def write(*changes: tuple[str, Any], name: str = "tiny.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(changed(*changes), sort_keys=False))
        return str(path)

    return write


T2I = ("landscape", "portrait", "text")
EDITS = ("scene", "perceptual", "object", "text", "identity", "style")


def judged(folder: Path, tasks: Sequence[str], cases: int, score: Callable[[str, str, int], float]) -> None:
    """A gallery's verdicts: score(task, category, case)."""
    (folder / "verdicts").mkdir(parents=True)
    lines = [
        {"case": f"{task}-{c}-{i}", "seed": 7, "task": task, "category": c, "judge": "probe", "status": "ok"}
        | {"score": score(task, c, i)}
        for task in tasks
        for c in (T2I if task == "t2i" else EDITS)
        for i in range(cases)
    ]
    (folder / "verdicts" / "probe.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def examined(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a shipped study as if it had been run: made-up scores, no model.
    score(row, run seed, task, category, case); rows are named as in scores.py."""

    def make(name: str, score: Score, *, seeds: int = 2, cases: int = 40) -> Path:
        told, _ = plan.load_study(name)
        runs = resolve_grid(told, seeds=seeds)
        place, last = StudyFolder(tmp_path / name), runs.moments[-1]
        numbers = tuple(dict.fromkeys(run.seed for run in runs.runs))
        begin_study(place, runs.plan, runs.definition(), last, numbers, covers(runs))
        tasks = runs.plan.protocol.tasks
        for teacher in runs.teachers:
            judged(place.teacher(teacher), tasks, cases, partial(score, f"teacher:{teacher}", 0))
        for run in runs.runs:
            for moment in runs.moments:
                row = run.cell if moment == last else f"{run.cell}@{moment / last:g}"
                judged(place.student(run.name, moment), tasks, cases, partial(score, row, run.seed))
        return place.folder

    return make
