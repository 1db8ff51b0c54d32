"""Everything a study found, as one JSON value: from study.json, verdicts and records alone. No model, no clock: the
same files give the same bytes."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fewstep.bench.one_judge import refuse_two_judges
from fewstep.data.mixture import Task
from fewstep.study import paper
from fewstep.study.folder import Begun, StudyFolder, opened
from fewstep.study.intervals import Interval
from fewstep.study.paper import PaperTable
from fewstep.study.plan import BASE, TablePlan
from fewstep.study.scores import (
    MEASURES,
    SPECIALISED,
    TEACHER,
    Answers,
    Row,
    Sat,
    judged,
    judges_of,
    level,
    measures,
    short_of,
    verdicts,
)
from fewstep.study.takeaways import answered, summary, takeaways

ORDER = ("landscape", "portrait", "text", "scene", "perceptual", "object", "identity", "style")
EDIT_ORDER = ("scene", "perceptual", "object", "text", "identity", "style")  # as in the paper


def results(folder: Path) -> dict[str, Any]:
    """What the study in `folder` found so far.

    Raises:
        StudyError: no study there. JudgeError: two judges under one name.
    """
    place, begun = StudyFolder(folder), opened(folder)
    galleries = sorted({file.parent.parent for file in place.folder.glob("examination/**/verdicts/*.jsonl")})
    refuse_two_judges((gallery, judge, lines) for gallery in galleries for judge, lines in judged(gallery).items())
    sat, measured = Sat(place, begun, cache(verdicts)), Sat(place, begun, cache(measures))
    columns: dict[str, Sequence[str]] = {task: _categories(sat, task) for task in begun.plan.protocol.tasks}
    tables = begun.plan.tables or tuple(_usual_table(begun, task) for task in begun.plan.protocol.tasks)
    asked = [takeaway for takeaway in takeaways() if takeaway.study == begun.plan.name]
    return {
        "study": begun.plan.name,
        "question": begun.plan.question,
        "world": begun.world,
        "iterations": begun.iterations,
        "batch": _common(begun, "run.batch"),
        "seeds": list(begun.seeds),
        "protocol": begun.plan.protocol.model_dump(mode="json"),
        "axis": {cell: _axis(begun, cell) for cell in begun.plan.cells},
        "judges": _judges(sat),
        "missing": _missing(sat),
        "short": [short for gallery in galleries for short in _short(place, gallery)],
        "tables": [_table(table, sat, columns[table.task]) for table in tables if table.task in columns],
        "takeaways": [summary(t, [answered(claim, sat, measured, columns) for claim in t.claims]) for t in asked],
        "moments": [_moments(sat, task, columns[task]) for task in columns] if begun.plan.protocol.moments else [],
        "measures": [_measured(measured, task) for task in columns],
    }


def row_names(begun: Begun) -> list[str]:
    """Teachers, then cells."""
    named = [name for name in begun.described["teachers"] if name != BASE]
    together = [f"{TEACHER}{SPECIALISED}"] if named else []
    base = [f"{TEACHER}{BASE}"] if BASE in begun.described["teachers"] else []
    return [*base, *together, *(f"{TEACHER}{name}" for name in named), *begun.plan.cells]


def row_label(begun: Begun, name: str) -> str:
    """What tables call a row."""
    if not name.startswith(TEACHER):
        return begun.plan.label(name)
    teacher = name.removeprefix(TEACHER)
    if teacher == SPECIALISED:
        return "specialised teachers"
    return f"{teacher} teacher"


def _categories(sat: Sat, task: str) -> tuple[str, ...]:
    """A task's categories that anything has been asked about, in the paper's order, then by name."""
    rows = [row for name in row_names(sat.begun) if (row := sat.row(name)) is not None]
    answers = [scores for row in rows for told in row.answers.values() for scores in told.values()]
    known = {category for scores in answers for t, category in scores if t == task}
    order = EDIT_ORDER if task == "edit" else ORDER
    return (*(c for c in order if c in known), *sorted(known - set(order)))


def _usual_table(begun: Begun, task: Task) -> TablePlan:
    title = "Text to image" if task == "t2i" else "Edits"
    return TablePlan(task=task, title=title, rows=dict.fromkeys(row_names(begun)))


def _common(begun: Begun, key: str) -> Any:
    return next(iter(begun.described["cells"].values())).get(key)


def _axis(begun: Begun, cell: str) -> dict[str, Any]:
    """What makes the cell differ: its values on the axis."""
    held = begun.described["cells"][cell]
    on = [key for key in held if any(key == axis or key.startswith(f"{axis}.") for axis in begun.plan.axis)]
    return {key: held[key] for key in on}


def _judges(sat: Sat) -> list[str]:
    rows = [row for name in row_names(sat.begun) if (row := sat.row(name)) is not None]
    return judges_of(rows)


def _missing(sat: Sat) -> list[str]:
    """Runs and teachers that have not been examined yet."""
    begun, found = sat.begun, []
    for name in begun.described["teachers"]:
        if sat.row(f"{TEACHER}{name}") is None:
            found.append(f"{TEACHER}{name}")
    for cell in begun.plan.cells:
        row = sat.row(cell)
        have = row.seeds if row is not None else frozenset()
        found += [begun.run(cell, seed) for seed in begun.seeds if seed not in have]
    return found


def _short(place: StudyFolder, gallery: Path) -> list[dict[str, Any]]:
    """Judges of a gallery that are not believed, for what they have not scored."""
    name = str(gallery.relative_to(place.folder / "examination"))
    return [{"gallery": name, "judge": j, "scored": n, "asked": of} for j, (n, of) in short_of(gallery).items()]


# ---- tables


def _table(table: TablePlan, sat: Sat, categories: Sequence[str]) -> dict[str, Any]:
    printed = paper.tables().get(table.paper) if table.paper is not None else None
    rows = {name: sat.row(name) for name in table.rows}
    judges = judges_of([row for row in rows.values() if row is not None])
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
    places = paper.ranks(ranked)
    return {
        "paper": table.paper,
        "task": table.task,
        "title": table.title,
        "columns": list(categories),
        "rows": [
            {
                "name": name,
                "label": row_label(sat.begun, name),
                "judges": {} if row is None else _by_judge(row, judges, table.task, categories),
                "rank": places.get(name),
                "paper": _printed(printed, table.rows[name]),
            }
            for name, row in rows.items()
        ],
    }


def _by_judge(row: Row, judges: Sequence[str], task: str, categories: Sequence[str]) -> dict[str, Any]:
    """judge -> category, and "average" -> its interval."""
    wanted = {**{c: [c] for c in categories}, "average": list(categories)}
    return {
        judge: {name: _told(level(row, judge, task, members)) for name, members in wanted.items()} for judge in judges
    }


def _printed(table: PaperTable | None, name: str | None) -> dict[str, Any] | None:
    if table is None or name is None:
        return None
    row = table.rows[name]
    cells = {c: [row.cells[judge][i] for judge in paper.JUDGES] for i, c in enumerate(table.columns)}
    return {"cells": {**cells, "average": list(row.average)}, "rank": row.rank}


def _told(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else found.as_dict()


# ---- on the way, and beside the score


def _moments(sat: Sat, task: str, categories: Sequence[str]) -> dict[str, Any]:
    """Every cell's mean score after so many iterations, by the first judge."""
    curves = {}
    judges = _judges(sat)
    for cell in sat.begun.plan.cells:
        points = []
        for iteration in sat.begun.moments:
            row = sat.row(f"{cell}@{iteration / sat.begun.iterations}")
            found = level(row, judges[0], task, categories) if row is not None and judges else None
            points.append({"iteration": iteration, "score": _told(found)})
        curves[cell] = points
    return {"task": task, "judge": judges[0] if judges else None, "cells": curves}


def _measured(sat: Sat, task: str) -> dict[str, Any]:
    """Means of what the probe measures and does not score, over the categories it applies to."""
    found: dict[str, dict[str, Any]] = {}
    for name in row_names(sat.begun):
        row = sat.row(name)
        if row is not None:
            some = next(iter(row.answers.values()))
            by_name = {m: _told(_measure(row, some, m, task)) for m in MEASURES}
            found[name] = {m: told for m, told in by_name.items() if told is not None}
    return {"task": task, "rows": {row_label(sat.begun, name): told for name, told in found.items()}}


def _measure(row: Row, some: Answers, measure: str, task: str) -> Interval | None:
    categories = sorted(c for t, c in some.get(measure, {}) if t == task)
    return level(row, measure, task, categories)
