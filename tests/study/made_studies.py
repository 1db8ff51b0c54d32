"""A study of two cells that takes seconds, and made-up verdicts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
    study: dict[str, Any] = json.loads(json.dumps(TINY))
    for key, value in changes:
        *path, last = key.split("/")
        here = study
        for part in path:
            here = here[int(part) if isinstance(here, list) else part]
        if value is None:
            del here[last]
        else:
            here[last] = value
    return study


T2I = ("landscape", "portrait", "text")
EDITS = ("scene", "perceptual", "object", "text", "identity", "style")


def judged(folder: Path, tasks: Sequence[str], cases: int, score: Callable[[str, str, int], float]) -> None:
    """A gallery's verdicts: score(task, category, case), within the scale of judges."""
    (folder / "verdicts").mkdir(parents=True)
    lines = [
        {"case": f"{task}-{c}-{i}", "seed": 7, "task": task, "category": c, "judge": "probe", "status": "ok"}
        | {"score": min(5.0, max(1.0, score(task, c, i)))}
        for task in tasks
        for c in (T2I if task == "t2i" else EDITS)
        for i in range(cases)
    ]
    (folder / "verdicts" / "probe.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
