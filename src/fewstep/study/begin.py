"""Begins a study in a folder, or goes on with the one that is there. Files only; no model, no recipe.

Jobs of an array begin at once, and two of them may add seeds: study.json is read, compared and written by one process
at a time.
"""

import fcntl
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.runtime.errors import StudyError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.study.folder import FORMAT, StudyFolder, open_study
from fewstep.study.plan import StudyPlan

SHOWN = 10  # differing keys in one message
LOCK = "study.lock"
CASES = "protocol.cases"


@dataclass(frozen=True)
class _Begun:
    """What study.json will say. examined: the cases a category of the examinations so far, where others are asked."""

    plan: StudyPlan
    definition: Mapping[str, Any]
    seeds: tuple[int, ...]
    examined: int | None = None


def begin_study(
    place: StudyFolder,
    plan: StudyPlan,
    definition: Mapping[str, Any],
    iterations: int,
    seeds: tuple[int, ...],
    covers: Mapping[str, Mapping[str, Any]],
    *,
    other_cases: bool = False,
    reporter: Reporter = SILENT,
) -> None:
    """Starts this study in the folder, or continues it; new seeds are added.

    Args:
        other_cases: the study may go on with another number of held-out cases than before. Its examinations so far are
            set aside, and those of that number are brought back if there are any.

    Raises:
        StudyError: the folder holds another study, or something else.
        EnvironmentRefused: it cannot be written.
    """
    if place.folder.is_file():
        raise StudyError(f"{place.folder} is a file; choose another --out")
    begun = _Begun(plan, json.loads(json.dumps(definition)), seeds)
    durable.make_folder(place.folder)
    with _alone_in(place.folder):
        if place.record.is_file():
            begun = _continued(place, begun, other_cases)
        elif any(path.name != LOCK and not path.name.endswith(".tmp") for path in place.folder.iterdir()):
            raise StudyError(f"{place.folder} is not empty and no study; choose another --out")
        _sweep(place)
        if begun.examined is not None:
            _set_aside(place, begun.examined, reporter)
        content = {
            "format": FORMAT,
            "plan": begun.plan.model_dump(mode="json"),
            "iterations": iterations,
            "described": begun.definition,
            "seeds": list(begun.seeds),
            "covers": {name: dict(cover) for name, cover in covers.items()},
        }
        durable.write_atomically(place.record, json.dumps(content, indent=1) + "\n")
        _bring_back(place, begun.definition["protocol"]["cases"], reporter)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process begins a study in this folder. The file of the lock stays: whoever removed it would
    let two processes hold one each.

    Raises:
        EnvironmentRefused: the file cannot be written, or its file system has no locks.
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise durable.refusal(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        os.close(handle)
        raise durable.refusal(path, error) from error
    try:
        yield
    finally:
        os.close(handle)


def _sweep(place: StudyFolder) -> None:
    """Removes what killed jobs left half written of study.json. Under the lock, nobody is writing it now.

    Raises:
        EnvironmentRefused: the folder cannot be written.
    """
    for left in place.folder.glob(f".{place.record.name}.*.tmp"):
        try:
            left.unlink(missing_ok=True)
        except OSError as error:
            raise durable.refusal(left, error) from error


def _continued(place: StudyFolder, asked: _Begun, other_cases: bool) -> _Begun:
    """
    Raises:
        StudyError: the folder's study differs in more than seeds and, where that is allowed, the number of cases.
    """
    held = open_study(place.folder)
    plan, definition = asked.plan, asked.definition
    if _before_premises(place.record):
        plan = plan.model_copy(update={"premises": {}})
        definition = {key: value for key, value in definition.items() if key != "premises"}
    cases: int = definition["protocol"]["cases"]
    examined: int = held.definition["protocol"]["cases"]
    changed = other_cases and cases != examined
    _refuse_other(place, _with_cases(held.definition, cases) if changed else held.definition, definition)
    known = (*held.seeds, *(seed for seed in asked.seeds if seed not in held.seeds))
    return _Begun(plan, definition, known, examined if changed else None)


def _before_premises(record: Path) -> bool:
    """Whether the study was begun by a version that knew no premises: it goes on without any."""
    return "premises" not in json.loads(record.read_text())["plan"]


def _with_cases(held: Mapping[str, Any], cases: int) -> dict[str, Any]:
    """The definition with this number of cases."""
    return {**held, "protocol": {**held["protocol"], "cases": cases}}


def _set_aside(place: StudyFolder, cases: int, reporter: Reporter) -> None:
    """Keeps examinations of so many cases out of the way.

    They are gone before study.json asks for another number, and those of that number come after it. So a kill between
    leaves a study that is not examined, never one that is examined on other cases than it says.

    Raises:
        EnvironmentRefused: the folder cannot be written.
    """
    if not place.examination.is_dir():
        return
    first = place.examination_of(cases)
    others = (first.with_name(f"{first.name}-{n}") for n in itertools.count(2))
    aside = next(path for path in itertools.chain([first], others) if not path.exists())
    _renamed(place.examination, aside)
    reporter.say(f"examined on {cases} cases a category so far; that stays in {aside}")


def _bring_back(place: StudyFolder, cases: int, reporter: Reporter) -> None:
    """Puts examinations of so many cases back, if they were set aside and there are no others."""
    aside = place.examination_of(cases)
    if aside.is_dir() and not place.examination.exists():
        _renamed(aside, place.examination)
        reporter.say(f"brought back {aside}")


def _renamed(path: Path, to: Path) -> None:
    try:
        path.rename(to)
    except OSError as error:
        raise durable.refusal(to, error) from error


def _refuse_other(place: StudyFolder, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    left, right = _flat(held), _flat(wanted)
    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    if not keys:
        return
    shown = [f"{key}: {left.get(key, '(not there)')} -> {right.get(key, '(not there)')}" for key in keys[:SHOWN]]
    more = [f"... and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    if CASES in keys:
        more.append(f"(fewstep study run --cases {right.get(CASES)} asks another number of the runs that are there)")
    raise StudyError(
        f"{place.folder} belongs to another study; choose another --out, or take these back:\n  "
        + "\n  ".join([*shown, *more])
    )


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    prefix = f"{key}." if key else ""
    return {k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}{name}").items()}
