"""A study's folder: the paths of its parts, and the study it belongs to. Files only; no model, no recipe.

study.json                   the study as it was started: its plan, its cells' recipes, its seeds runs/CELL-seedN/ run
folders; runs/store is the conditioning store they share examination/sources/         the reference pictures of edits
examination/teachers/NAME/   galleries with verdicts/, one for each teacher examination/CELL-seedN/NNNNNN/   the same
for a run, after this many iterations report/                      what `fewstep study report` writes
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.runtime.errors import StudyError
from fewstep.study.plan import StudyPlan, validate_study

FORMAT = 1
SHOWN = 10  # differing keys in one message


@dataclass(frozen=True)
class StudyFolder:
    """The paths of one study's folder."""

    folder: Path

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    @property
    def examination(self) -> Path:
        return self.folder / "examination"

    @property
    def sources(self) -> Path:
        return self.examination / "sources"

    def teacher(self, name: str) -> Path:
        """A teacher's gallery."""
        return self.examination / "teachers" / name

    def student(self, run: str, iteration: int) -> Path:
        """A run's gallery after this many iterations."""
        return self.examination / run / f"{iteration:06d}"

    @property
    def record(self) -> Path:
        return self.folder / "study.json"


@dataclass(frozen=True)
class StudyManifest:
    """The content of study.json. described: name, world, protocol, teachers, and each cell's recipe by dotted key."""

    plan: StudyPlan
    world: str
    iterations: int
    definition: Mapping[str, Any]
    seeds: tuple[int, ...]
    covers: Mapping[str, Mapping[str, Any]]  # specialised teacher -> the tasks and categories it teaches; null: all

    @property
    def moments(self) -> tuple[int, ...]:
        return self.plan.protocol.iterations_of(self.iterations)

    def run(self, cell: str, seed: int) -> str:
        return f"{cell}-seed{seed}"


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
    definition = json.loads(json.dumps(definition))
    known, fewer = seeds, None
    if place.record.is_file():
        held = open_study(place.folder)
        if _before_premises(place.record):
            plan = plan.model_copy(update={"premises": {}})
            definition = {key: value for key, value in definition.items() if key != "premises"}
        fewer = _fewer_cases(held.definition, definition) if more_cases else None
        _refuse_other(place, held.definition if fewer is None else _with_cases(held.definition, definition), definition)
        known = (*held.seeds, *(seed for seed in seeds if seed not in held.seeds))
    elif place.folder.exists() and any(not path.name.endswith(".tmp") for path in _inside(place.folder)):
        raise StudyError(f"{place.folder} is not empty and no study; choose another --out")
    durable.make_folder(place.folder)
    if fewer is not None:
        _set_aside(place, fewer)
    content = {
        "format": FORMAT,
        "plan": plan.model_dump(mode="json"),
        "iterations": iterations,
        "described": definition,
        "seeds": list(known),
        "covers": {name: dict(cover) for name, cover in covers.items()},
    }
    durable.write_atomically(place.record, json.dumps(content, indent=1) + "\n")


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
    names = (
        f"examination-of-{cases}-cases{suffix}"
        for suffix in itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    )
    place.examination.rename(next(free for name in names if not (free := place.folder / name).exists()))


def _before_premises(record: Path) -> bool:
    """Whether the study was begun by a version that knew no premises: it goes on without any."""
    return "premises" not in json.loads(record.read_text())["plan"]


def open_study(folder: Path) -> StudyManifest:
    """An existing study.

    Raises:
        StudyError: there is none, or it is of another version.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise StudyError(f"{folder} is no study folder: it has no study.json. Name the --out of fewstep study run")
    try:
        content = json.loads(path.read_text())
        form, raw = content["format"], content["plan"]
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} cannot be read ({error}); name another --out, or remove it") from error
    if form != FORMAT:
        raise StudyError(f"{path} has format {form}, this version reads {FORMAT}; run the study in another folder")
    plan = validate_study(raw, str(path))
    definition = content["described"]
    return StudyManifest(
        plan, definition["world"], content["iterations"], definition, tuple(content["seeds"]), content["covers"]
    )


def _inside(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise StudyError(f"{folder} is a file; choose another --out")
    return sorted(folder.iterdir())


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
