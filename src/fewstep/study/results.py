"""All results of a study as one JSON value: from study.json, verdicts and records alone. There is no model and no
clock, so the same files give the same bytes."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fewstep.bench.judge_identity import refuse_two_judges
from fewstep.runtime.task import Task
from fewstep.study import paper
from fewstep.study.differences import differences
from fewstep.study.folder import (
    StudyFolder,
    StudyManifest,
    open_study,
)
from fewstep.study.intervals import Interval
from fewstep.study.paper import PaperTable
from fewstep.study.plan import BASE, TablePlan
from fewstep.study.premises import premise_results
from fewstep.study.scores import (
    MEASURES,
    SPECIALISED,
    TEACHER,
    ExaminedRuns,
    ScoreRow,
    common_judges,
    incomplete_judges,
    level,
    measured_categories,
    measures,
    verdict_lines,
    verdicts,
    with_average,
)
from fewstep.study.takeaways import (
    claim_result,
    takeaway_summary,
    takeaways,
)

ORDER = ("landscape", "portrait", "text", "still-life", "scene", "perceptual", "object", "identity", "style")
EDIT_ORDER = (
    *("scene", "perceptual", "object", "text", "identity", "style"),  # as in the paper
    *("two-pictures", "three-pictures"),
)


def results(folder: Path) -> dict[str, Any]:
    """The results so far of the study in `folder`.

    Raises:
        StudyError: no study there.
        JudgeError: two judges under one name.
    """
    place, manifest = StudyFolder(folder), open_study(folder)
    galleries = sorted({file.parent.parent for file in place.examination.glob("**/verdicts/*.jsonl")})
    refuse_two_judges(
        (gallery, judge, lines) for gallery in galleries for judge, lines in verdict_lines(gallery).items()
    )
    examined, measured = ExaminedRuns(place, manifest, cache(verdicts)), ExaminedRuns(place, manifest, cache(measures))
    columns: dict[str, Sequence[str]] = {task: _categories(examined, task) for task in manifest.plan.protocol.tasks}
    tables = manifest.plan.tables or tuple(_default_table(manifest, task) for task in manifest.plan.protocol.tasks)
    premises = premise_results(examined, columns)
    asked = [takeaway for takeaway in takeaways() if takeaway.study == manifest.plan.name]
    return {
        "study": manifest.plan.name,
        "question": manifest.plan.question,
        "world": manifest.world,
        "iterations": manifest.iterations,
        "batch": _common(manifest, "run.batch"),
        "seeds": list(manifest.seeds),
        "protocol": manifest.plan.protocol.described(),
        "axis": {cell: _axis(manifest, cell) for cell in manifest.plan.cells},
        "judges": _judges(examined),
        "missing": _missing(examined),
        "short": [short for gallery in galleries for short in _short(place, gallery)],
        "tables": [_table(table, examined, columns[table.task]) for table in tables if table.task in columns],
        "takeaways": [
            takeaway_summary(t, [claim_result(claim, examined, measured, columns) for claim in t.claims], premises)
            for t in asked
        ],
        "premises": [each.as_dict() for each in premises],
        "moments": [_moments(examined, task, columns[task]) for task in columns]
        if manifest.plan.protocol.moments
        else [],
        "measures": [_measured(measured, task) for task in columns],
        "differences": [_differences(examined, measured, task, columns[task]) for task in columns]
        if manifest.plan.baseline is not None
        else [],
    }


def row_names(manifest: StudyManifest) -> list[str]:
    """Teachers, then cells."""
    named = [name for name in manifest.definition["teachers"] if name != BASE]
    together = [f"{TEACHER}{SPECIALISED}"] if named else []
    base = [f"{TEACHER}{BASE}"] if BASE in manifest.definition["teachers"] else []
    return [*base, *together, *(f"{TEACHER}{name}" for name in named), *manifest.plan.cells]


def row_label(manifest: StudyManifest, name: str) -> str:
    """What tables call a row."""
    if not name.startswith(TEACHER):
        return manifest.plan.label(name)
    teacher = name.removeprefix(TEACHER)
    if teacher == SPECIALISED:
        return "specialised teachers"
    return f"{teacher} teacher"


def _categories(examined: ExaminedRuns, task: str) -> tuple[str, ...]:
    """A task's categories with any questions, in the paper's order, then by name."""
    rows = [row for name in row_names(examined.manifest) if (row := examined.row(name)) is not None]
    answers = [scores for row in rows for told in row.answers.values() for scores in told.values()]
    known = {category for scores in answers for t, category in scores if t == task}
    order = EDIT_ORDER if task == "edit" else ORDER
    return (*(c for c in order if c in known), *sorted(known - set(order)))


def _default_table(manifest: StudyManifest, task: Task) -> TablePlan:
    title = "Text to image" if task == "t2i" else "Edits"
    return TablePlan(task=task, title=title, rows=dict.fromkeys(row_names(manifest)))


def _common(manifest: StudyManifest, key: str) -> Any:
    return next(iter(manifest.definition["cells"].values())).get(key)


def _axis(manifest: StudyManifest, cell: str) -> dict[str, Any]:
    """The cell's values on the axis, of keys in which some cells differ: an axis may be a whole section."""
    by_cell = manifest.definition["cells"]
    held = by_cell[cell]
    on = [key for key in held if any(key == axis or key.startswith(f"{axis}.") for axis in manifest.plan.axis)]
    return {key: held[key] for key in on if any(key not in of or of[key] != held[key] for of in by_cell.values())}


def _judges(examined: ExaminedRuns) -> list[str]:
    rows = [row for name in row_names(examined.manifest) if (row := examined.row(name)) is not None]
    return common_judges(rows)


def _missing(examined: ExaminedRuns) -> list[str]:
    """Runs and teachers that have not been examined yet."""
    manifest, found = examined.manifest, []
    for name in manifest.definition["teachers"]:
        if examined.row(f"{TEACHER}{name}") is None:
            found.append(f"{TEACHER}{name}")
    for cell in manifest.plan.cells:
        row = examined.row(cell)
        have = row.seeds if row is not None else frozenset()
        found += [manifest.run(cell, seed) for seed in manifest.seeds if seed not in have]
    return found


def _short(place: StudyFolder, gallery: Path) -> list[dict[str, Any]]:
    """Judges of a gallery that are not used, because of what they have not scored."""
    name = str(gallery.relative_to(place.examination))
    return [
        {"gallery": name, "judge": j, "scored": n, "asked": of} for j, (n, of) in incomplete_judges(gallery).items()
    ]


# ---- tables


def _table(table: TablePlan, examined: ExaminedRuns, categories: Sequence[str]) -> dict[str, Any]:
    printed = paper.tables().get(table.paper) if table.paper is not None else None
    rows = {name: examined.row(name) for name in table.rows}
    judges = common_judges([row for row in rows.values() if row is not None])
    averages = {
        name: {judge: told.value for judge in judges if (told := level(row, judge, table.task, categories))}
        for name, row in rows.items()
        if row is not None
    }
    ranked = {
        name: by_judge
        for name, by_judge in averages.items()
        if by_judge and (printed is None or table.rows[name] is not None)
    }
    places = paper.paper_ranks(ranked)
    return {
        "paper": table.paper,
        "task": table.task,
        "title": table.title,
        "columns": list(categories),
        "rows": [
            {
                "name": name,
                "label": row_label(examined.manifest, name),
                "judges": {} if row is None else _by_judge(row, judges, table.task, categories),
                "rank": places.get(name),
                "paper": _printed(printed, table.rows[name]),
            }
            for name, row in rows.items()
        ],
    }


def _by_judge(row: ScoreRow, judges: Sequence[str], task: str, categories: Sequence[str]) -> dict[str, Any]:
    """judge -> category, and "average" -> its interval."""
    return {
        judge: {
            name: _interval_json(level(row, judge, task, members)) for name, members in with_average(categories).items()
        }
        for judge in judges
    }


def _printed(table: PaperTable | None, name: str | None) -> dict[str, Any] | None:
    if table is None or name is None:
        return None
    row = table.rows[name]
    cells = {c: [row.cells[judge][i] for judge in paper.JUDGES] for i, c in enumerate(table.columns)}
    return {"cells": {**cells, "average": list(row.average)}, "rank": row.rank}


def _interval_json(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else found.as_dict()


# ---- on the way, and beside the score


def _moments(examined: ExaminedRuns, task: str, categories: Sequence[str]) -> dict[str, Any]:
    """Every cell's mean score after each of these numbers of iterations, by the first judge."""
    curves = {}
    judges = _judges(examined)
    for cell in examined.manifest.plan.cells:
        points = []
        for iteration in examined.manifest.moments:
            row = examined.row(f"{cell}@{iteration / examined.manifest.iterations}")
            found = level(row, judges[0], task, categories) if row is not None and judges else None
            points.append({"iteration": iteration, "score": _interval_json(found)})
        curves[cell] = points
    return {"task": task, "judge": judges[0] if judges else None, "cells": curves}


def _measured(examined: ExaminedRuns, task: str) -> dict[str, Any]:
    """Means of the probe's measurements that are no score, over the categories they apply to."""
    found: dict[str, dict[str, Any]] = {}
    for name in row_names(examined.manifest):
        row = examined.row(name)
        if row is not None:
            by_name = {m: _interval_json(level(row, m, task, measured_categories(row, m, task))) for m in MEASURES}
            found[name] = {m: told for m, told in by_name.items() if told is not None}
    return {"task": task, "rows": {row_label(examined.manifest, name): told for name, told in found.items()}}


def _differences(
    examined: ExaminedRuns, measured: ExaminedRuns, task: str, categories: Sequence[str]
) -> dict[str, Any]:
    """Of all rows from the study's baseline."""
    manifest = examined.manifest
    told = differences(examined, measured, task, categories, row_names(manifest))
    return {
        "task": task,
        "baseline": row_label(manifest, str(manifest.plan.baseline)),
        "columns": list(categories),
        "rows": [row | {"label": row_label(manifest, row["name"])} for row in told],
    }
