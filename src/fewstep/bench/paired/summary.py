"""From records of single pictures to the figures of an examination, and the teacher's band beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewstep.bench import statistics
from fewstep.bench.paired.catalogue import COMPOSITE, FIGURES
from fewstep.bench.paired.composite import composite

PictureRecords = Sequence[Mapping[str, Any]]  # case, task, seed, values, missing
NO_BAND = {"psnr", "structure"}  # of the teacher to itself they say nothing


def paired_figures(records: PictureRecords, teacher: PictureRecords) -> dict[str, float]:
    """The means of every figure that some picture has, and the composite where all of its parts are there."""
    found = {
        figure.name: value
        for figure in FIGURES
        if (value := mean_of(records, figure.task, figure.name.partition(".")[2])) is not None
    }
    scores = {name for record in records for name in record["values"] if name.startswith("score_")}
    for task in ("t2i", "edit"):
        for name in sorted(scores):
            value = mean_of(records, task, name)
            found |= {} if value is None else {f"{task}.{name.removeprefix('score_')}": value}
    whole = composite(found, teacher_values(teacher))
    return found if whole is None else found | {COMPOSITE: whole}


def mean_of(records: PictureRecords, task: str, name: str) -> float | None:
    """The mean over pictures of a task; variety is a ratio of means, of the same cases. None if no picture has it."""
    of_task = [record["values"] for record in records if record["task"] == task]
    if name == "variety":
        both = [(v["seeds"], v["teacher_seeds"]) for v in of_task if "seeds" in v and "teacher_seeds" in v]
        below = sum(taught for _, taught in both)
        return sum(own for own, _ in both) / below if below > 0 else None
    values = [v[name] for v in of_task if name in v]
    return float(np.mean(values)) if values else None


def teacher_values(teacher: PictureRecords) -> dict[str, float]:
    """The teacher's own value of each figure that it has one of."""
    return {name: band["value"] for name, band in teacher_band(teacher).items() if band["value"] is not None}


def teacher_band(teacher: PictureRecords) -> dict[str, dict[str, float | None]]:
    """The teacher's own value and its 95 % interval over cases: what differs by less may be chance. Likeness to the
    teacher has no band, since its own is perfect."""
    found: dict[str, dict[str, float | None]] = {}
    for figure in FIGURES:
        name = figure.name.partition(".")[2]
        if name in NO_BAND:
            continue
        if name == "variety":
            found[figure.name] = {"value": 1.0, "low": None, "high": None}
            continue
        rows = [r for r in teacher if r["task"] == figure.task and name in r["values"]]
        if rows:
            estimate = statistics.mean([r["values"][name] for r in rows], [r["case"] for r in rows])
            found[figure.name] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return found


def missing_reasons(records: PictureRecords, names: Sequence[str]) -> dict[str, str]:
    """Why a figure that the set could give is not there at all, by name."""
    found: dict[str, str] = {}
    for figure in FIGURES:
        if figure.name not in names or mean_of(records, figure.task, figure.name.partition(".")[2]) is not None:
            continue
        short = figure.name.partition(".")[2]
        told = [
            why
            for record in records
            if record["task"] == figure.task
            for name, why in record["missing"].items()
            if name in (short, "picture")
        ]
        found[figure.name] = max(told, key=told.count) if told else "no picture has it"
    return found | _missing_scores(records)


def _missing_scores(records: PictureRecords) -> dict[str, str]:
    """Why a scorer that the recipe names scored no picture of a task."""
    found: dict[str, str] = {}
    for record in records:
        for name, why in record["missing"].items():
            if name.startswith("score_") and mean_of(records, record["task"], name) is None:
                found[f"{record['task']}.{name.removeprefix('score_')}"] = why
    return found
