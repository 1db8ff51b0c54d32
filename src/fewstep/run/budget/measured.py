"""Seconds of an iteration, as a run's own records tell them."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from fewstep.runtime.durable import read_jsonl
from fewstep.runtime.errors import RecipeError, RunError
from fewstep.runtime.task import Task

LEAST, MOST = 1e-9, 1e9  # of a rate, ours: far beyond any machine, and hours of both are numbers
METRICS_FILE = "metrics.jsonl"


def refuse_rates(
    seconds: float | None, measured: str | Path | None, tflops: float | None, pcie: float, tasks: Sequence[Task]
) -> None:
    """Checks the ways to tell a rate, before a rehearsal takes its minute.

    Raises:
        RecipeError: more than one, or one that is no number to count with. RunError: as `measured_seconds`.
    """
    for name, rate in (("--seconds-per-iteration", seconds), ("--tflops", tflops), ("--pcie", pcie)):
        if rate is not None and not LEAST <= rate <= MOST:
            raise RecipeError(f"{name} {rate:g}: no hours follow from that; give a number from {LEAST:g} to {MOST:g}")
    if sum(value is not None for value in (seconds, measured, tflops)) > 1:
        raise RecipeError("--seconds-per-iteration, --measured and --tflops are three ways to say one thing; give one")
    if measured is not None:
        measured_seconds(Path(measured), tasks)


def measured_seconds(run: Path, tasks: Sequence[Task]) -> dict[Task, float]:
    """The median of each task.

    Raises:
        RunError: no run, or none with an iteration of each task.
    """
    path = run / METRICS_FILE
    if not path.is_file():
        raise RunError(f"{path} is missing: --measured takes a run folder")
    found: dict[str, list[float]] = {}
    try:
        for line in read_jsonl(path):
            if line["phase"] == "distil":
                found.setdefault(line["task"], []).append(float(line["seconds"]["iteration"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is no record of a run ({error!r:.80}); give the folder of a run") from error
    lacking = [task for task in tasks if task not in found]
    if lacking:
        raise RunError(
            f"{path} has no iteration of the task {lacking[0]}; give a run that has all of the recipe's tasks"
        )
    medians = {task: statistics.median(found[task]) for task in tasks}
    for task, seconds in medians.items():
        if not LEAST <= seconds <= MOST:
            raise RunError(f"{path} says that an iteration of {task} takes {seconds:g} s; give a run that was measured")
    return medians
