"""Begins a study in a folder, or goes on with the one that is there. Files only; no model, no recipe.

Jobs of an array begin at once, and two of them may add seeds: study.json is read, compared and written by one process
at a time.
"""

import fcntl
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.runtime.errors import StudyError
from fewstep.study.folder import FORMAT, StudyFolder, open_study
from fewstep.study.plan import StudyPlan

SHOWN = 10  # differing keys in one message


@dataclass(frozen=True)
class _Begun:
    """What study.json will say. fewer: the cases a category of the examinations so far, where more are asked now."""

    plan: StudyPlan
    definition: Mapping[str, Any]
    seeds: tuple[int, ...]
    fewer: int | None = None


def begin_study(
    place: StudyFolder,
    plan: StudyPlan,
    definition: Mapping[str, Any],
    iterations: int,
    seeds: tuple[int, ...],
    covers: Mapping[str, Mapping[str, Any]],
    *,
    more_cases: bool = False,
) -> None:
    """Starts this study in the folder, or continues it; new seeds are added.

    Args:
        more_cases: the study may go on with more held-out cases than it was begun with. Its examinations so far are
            set aside, since they are of fewer.

    Raises:
        StudyError: the folder holds another study, or something else.
    """
    if place.folder.is_file():
        raise StudyError(f"{place.folder} is a file; choose another --out")
    begun = _Begun(plan, json.loads(json.dumps(definition)), seeds)
    durable.make_folder(place.folder)
    with _alone_in(place.folder):
        if place.record.is_file():
            begun = _continued(place, begun, more_cases)
        elif any(not path.name.endswith(".tmp") for path in place.folder.iterdir()):
            raise StudyError(f"{place.folder} is not empty and no study; choose another --out")
        if begun.fewer is not None:
            _set_aside(place, begun.fewer)
        content = {
            "format": FORMAT,
            "plan": begun.plan.model_dump(mode="json"),
            "iterations": iterations,
            "described": begun.definition,
            "seeds": list(begun.seeds),
            "covers": {name: dict(cover) for name, cover in covers.items()},
        }
        durable.write_atomically(place.record, json.dumps(content, indent=1) + "\n")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process begins a study in this folder. A file system without locks goes without."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _continued(place: StudyFolder, asked: _Begun, more_cases: bool) -> _Begun:
    """
    Raises:
        StudyError: the folder's study differs in more than seeds and, where that is allowed, a larger number of cases.
    """
    held = open_study(place.folder)
    plan, definition, seeds = asked.plan, asked.definition, asked.seeds
    if _before_premises(place.record):
        plan = plan.model_copy(update={"premises": {}})
        definition = {key: value for key, value in definition.items() if key != "premises"}
    fewer = _fewer_cases(held.definition, definition) if more_cases else None
    _refuse_other(place, held.definition if fewer is None else _with_cases(held.definition, definition), definition)
    known = (*held.seeds, *(seed for seed in seeds if seed not in held.seeds))
    return _Begun(plan, definition, known, fewer)


def _before_premises(record: Path) -> bool:
    """Whether the study was begun by a version that knew no premises: it goes on without any."""
    return "premises" not in json.loads(record.read_text())["plan"]


def _fewer_cases(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> int | None:
    """How many cases a category the study was examined on so far, if more are wanted."""
    have: int = held["protocol"]["cases"]
    return have if wanted["protocol"]["cases"] > have else None


def _with_cases(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with the wanted number of cases."""
    return {**held, "protocol": {**held["protocol"], "cases": wanted["protocol"]["cases"]}}


def _set_aside(place: StudyFolder, cases: int) -> None:
    """Keeps examinations of so many cases out of the way. They are gone from `examination` before study.json asks for
    more, so no report can mix the two; a kill between leaves a study that is not examined yet."""
    if not place.examination.is_dir():
        return
    suffixes = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    names = (place.folder / f"examination-of-{cases}-cases{suffix}" for suffix in suffixes)
    place.examination.rename(next(name for name in names if not name.exists()))


def _refuse_other(place: StudyFolder, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    left, right = _flat(held), _flat(wanted)
    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    if not keys:
        return
    shown = [f"{key}: {left.get(key, '(not there)')} -> {right.get(key, '(not there)')}" for key in keys[:SHOWN]]
    more = [f"... and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    raise StudyError(
        f"{place.folder} belongs to another study; choose another --out, or take these back:\n  "
        + "\n  ".join([*shown, *more])
    )


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {key: value}
    prefix = f"{key}." if key else ""
    return {k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}{name}").items()}
