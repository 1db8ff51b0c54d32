"""Kept students of one run, ranked on one frozen set, with intervals.

Whole cases are resampled, and one resample serves all students (bench/resampling.py). So a hard case moves all of them
together, and what is left is how they differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fewstep.bench.paired.catalogue import COMPOSITE, closeness
from fewstep.bench.paired.composite import PARTS, composite
from fewstep.bench.paired.summary import PictureRecords, paired_figures, teacher_values
from fewstep.bench.resampling import (
    Scores,
    bootstrap_estimate,
    categories_of,
    judges_of,
    resampled_cell_means,
)
from fewstep.bench.statistics import Estimate, Floats


@dataclass(frozen=True)
class RankedStudent:
    """
    Args:
        value: of the figure that ranks, on a scale where more is better.
        behind: how far it is behind the first one; 0 for the first.
        told_apart: whether the interval of `behind` leaves out 0.
        figures: all of them.
    """

    iteration: int
    value: Estimate
    behind: Estimate
    told_apart: bool
    figures: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rank_students(
    records: Mapping[int, PictureRecords], teacher: PictureRecords, by: str = COMPOSITE
) -> list[RankedStudent]:
    """The students, best first; of equal ones the later. Those without the figure are left out.

    Args:
        records: of every student's pictures, by iteration.
        teacher: of the teacher's.
        by: a figure, or the composite.
    """
    taught = teacher_values(teacher)
    figures = {iteration: paired_figures(rows, teacher) for iteration, rows in records.items()}
    known = sorted(iteration for iteration, found in figures.items() if by in found)
    if not known:
        return []
    scores = {str(iteration): _cells(records[iteration]) for iteration in known}
    drawn_RS = _resampled_values(scores, by, taught)
    values = [_value(by, figures[iteration], taught) for iteration in known]
    first = max(range(len(known)), key=lambda n: (values[n], n))
    cases = {(str(r["task"]), str(r["case"])) for r in records[known[first]]}
    tasks = len({task for task, _ in cases})
    found = []
    for n, iteration in enumerate(known):
        own = bootstrap_estimate(values[n], drawn_RS[:, n], len(cases), len(cases), tasks)
        gap_R = drawn_RS[:, first] - drawn_RS[:, n]
        behind = bootstrap_estimate(values[first] - values[n], gap_R, len(cases), len(cases), tasks)
        apart = behind.low is not None and behind.low > 0
        found.append(RankedStudent(iteration, own, behind, apart, figures[iteration]))
    return sorted(found, key=lambda one: (-(one.value.value or 0.0), -one.iteration))


def _value(by: str, found: Mapping[str, float], taught: Mapping[str, float]) -> float:
    return found[by] if by == COMPOSITE else closeness(by, found[by], taught.get(by))


def _cells(rows: PictureRecords) -> Any:
    """Scores by figure and task, as `resampling` takes them."""
    cells: dict[str, dict[str, list[tuple[str, int, float | None]]]] = {}
    for row in rows:
        for name, value in row["values"].items():
            cells.setdefault(name, {}).setdefault(row["task"], []).append((row["case"], row["seed"], value))
    return cells


def _resampled_values(scores: Scores, by: str, taught: Mapping[str, float]) -> Floats:
    """(resamples, students): the ranking figure in every resample. NaN where a resample lacks it."""
    means_RSFT = resampled_cell_means(scores)
    names = [f"{task}.{figure}" for figure in judges_of(scores) for task in categories_of(scores)]
    flat = means_RSFT.reshape(*means_RSFT.shape[:2], -1)
    needed = {part.figure for part in PARTS} if by == COMPOSITE else {by}
    values = np.full(flat.shape[:2], np.nan)
    for r in range(flat.shape[0]):
        for s in range(flat.shape[1]):
            values[r, s] = _of_means(dict(zip(names, flat[r, s], strict=True)), needed, by, taught)
    return values


def _of_means(means: dict[str, float], needed: set[str], by: str, taught: Mapping[str, float]) -> float:
    if "t2i.seeds" in means and means.get("t2i.teacher_seeds", 0.0) > 0:
        means["t2i.variety"] = means["t2i.seeds"] / means["t2i.teacher_seeds"]
    found = {name: means[name] for name in needed if name in means and np.isfinite(means[name])}
    if by == COMPOSITE:
        whole = composite(found, taught)
        return np.nan if whole is None else whole
    short = by.replace(".", ".score_")
    value = found.get(by, means.get(short, np.nan))
    return closeness(by, value, taught.get(by)) if np.isfinite(value) else np.nan


def to_ship(ranked: Sequence[RankedStudent]) -> int | None:
    """The iteration to ship: the first of the ranking; None without any."""
    return ranked[0].iteration if ranked else None
