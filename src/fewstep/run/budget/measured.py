"""Seconds of an iteration, as a run's own records tell them."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from fewstep.runtime.durable import read_jsonl
from fewstep.runtime.errors import RunError
from fewstep.runtime.task import Task

METRICS_FILE = "metrics.jsonl"


def measured_seconds(run: Path, tasks: Sequence[Task]) -> dict[Task, float]:
    """The median of each task.

    Raises:
        RunError: no run, or none with an iteration of each task.
    """
    path = run / METRICS_FILE
    if not path.is_file():
        raise RunError(f"{path} is missing: --measured takes a run folder")
    found: dict[str, list[float]] = {}
    for line in read_jsonl(path):
        if line["phase"] == "distil":
            found.setdefault(line["task"], []).append(line["seconds"]["iteration"])
    lacking = [task for task in tasks if task not in found]
    if lacking:
        raise RunError(
            f"{path} has no iteration of the task {lacking[0]}; give a run that has all of the recipe's tasks"
        )
    return {task: statistics.median(found[task]) for task in tasks}
