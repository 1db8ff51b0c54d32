"""A fork: a new run that continues from another run's checkpoint, with a changed recipe.

The new folder gets the checkpoint (and those that its ranking names), the records and kept students up to it, and
fork.json, which says where they came from and what was changed. Then it is a run like any other. Iterations are counted
on, and random draws follow from their numbers as before. So a fork that changes nothing ends like the uninterrupted
run, to the last bit.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.run import recipe
from fewstep.run.folder import RunDir
from fewstep.run.recipe import Recipe
from fewstep.run.student import checkpoint_of
from fewstep.runtime import durable
from fewstep.runtime.errors import RunError
from fewstep.train.checkpoint import (
    STATE,
    Checkpoints,
    Position,
    checkpoint_fault,
)
from fewstep.train.kept_students import KeptStudents

RECORD = "fork.json"
# Keys whose change would give the checkpoint's tensors another meaning, or no place.
FIXED_OF_ROLES = ("mode", "adapter.rank", "adapter.alpha", "adapter.targets")
FIXED_KEYS = (
    "model",
    "run.seed",
    *(f"{role}.{key}" for role in ("student", "critic") for key in FIXED_OF_ROLES),
    "student.init_from",
)


@dataclass(frozen=True)
class Origin:
    """What a fork starts from. which: the checkpoint as the user named it. changed: `key: old -> new` for every changed
    key that determines the weights."""

    run: RunDir
    which: str
    place: Path
    iteration: int
    changed: list[str]

    def record(self) -> dict[str, Any]:
        where = {"run": str(self.run.folder.resolve()), "which": self.which, "checkpoint": self.place.name}
        return where | {"iteration": self.iteration, "changed": self.changed}


def fork_origin(asked: str, chosen: Recipe, out: Path) -> Origin | None:
    """The origin of a fork. Everything that can be refused is refused before anything is created.

    None if `out` is that fork already and has a checkpoint of its own. It is then resumed like any run, and does not
    need the old one any more.

    Args:
        asked: a run folder, or RUN@WHICH with an iteration, `last` or `best`.

    Raises:
        RunError: no such run or checkpoint, a change that its tensors cannot follow, nothing left to do, or an `out`
            that is another run.
    """
    folder, which = _asked(asked)
    if folder.resolve() == out.resolve():
        raise RunError(f"a fork is a run of its own; choose another --out than {folder}")
    held = _record(out)
    if (out / "metrics.jsonl").exists():
        if held is None or (held["run"], held["which"]) != (str(folder.resolve()), which):
            raise RunError(
                f"{out} is a run already, and no fork of {asked}. Leave --fork out to go on with it, or choose another "
                "--out"
            )
        if _begun(out, held):
            return None
    run = RunDir.open(folder)
    place = checkpoint_of(run, which)
    iteration = int(_state(place)["iteration"])
    changed = recipe.weight_changes(run.recipe, chosen)
    _refuse_bound(changed, folder)
    if iteration and any(line.startswith("critic.warmup_iterations: ") for line in changed):
        raise RunError(
            f"{place} has done {iteration:,} iterations, and the critic warms up before the first: take "
            "critic.warmup_iterations back, or raise critic.updates instead"
        )
    if iteration >= chosen.run.iterations:
        raise RunError(
            f"{place} has done {iteration:,} iterations and run.iterations is {chosen.run.iterations:,}: nothing is "
            f"left to do. Set run.iterations higher, or fork from an earlier one, as {folder}@ITERATION"
        )
    return Origin(run, which, place, iteration, changed)


def begin_fork(run: RunDir, start: Origin, say: Callable[[str], None]) -> None:
    """Copies checkpoints and records into the folder of the new run. Its fork.json is completed last, so what was
    interrupted is started again.

    Raises:
        RunError: the other run deleted the checkpoint meanwhile.
        EnvironmentRefused: no space, or no permission.
    """
    _write_record(run.folder, start, whole=False)
    durable.write_atomically(run.metrics_path, start.run.metrics_path.read_bytes())
    ranked = [one["iteration"] for one in _state(start.place).get("ranking", {}).get("ranked", [])]
    best = [start.run.checkpoints / Position(iteration).name for iteration in ranked]
    for place in {start.place, *(one for one in best if checkpoint_fault(one) is None)}:
        _take(place, run.checkpoints / place.name)
    if run.recipe.run.keep_students:
        KeptStudents(run.folder).take_over(KeptStudents(start.run.folder), start.iteration)
    _write_record(run.folder, start, whole=True)
    say(f"forked from {start.place}" + "".join(f"\n  {line}" for line in start.changed))


def refuse_interrupted_fork(run: RunDir) -> None:
    """Refuses a fork that was interrupted before it had its checkpoints. It would otherwise start from nothing.

    Raises:
        RunError: the message says how to continue.
    """
    record = _record(run.folder)
    if record is not None and not _begun(run.folder, record):
        raise RunError(
            f"{run.folder} is a fork without its checkpoint. Give --fork {record['run']}@{record['which']} again"
        )


def _begun(folder: Path, record: dict[str, Any]) -> bool:
    return record["whole"] and Checkpoints(folder / "checkpoints", keep=1).latest() is not None


def _write_record(folder: Path, start: Origin, whole: bool) -> None:
    durable.write_atomically(folder / RECORD, json.dumps(start.record() | {"whole": whole}, indent=1) + "\n")


def _record(folder: Path) -> dict[str, Any] | None:
    """The record of a fork's origin; None if the run is not a fork."""
    path = folder / RECORD
    return dict(json.loads(path.read_text())) if path.exists() else None


def origin_folder(asked: str) -> Path:
    """The run folder that `--fork` names."""
    return _asked(asked)[0]


def _asked(asked: str) -> tuple[Path, str]:
    folder, at, which = asked.rpartition("@")
    if not at or Path(asked).is_dir():
        return Path(asked), "last"
    return Path(folder), which


def _refuse_bound(changed: list[str], folder: Path) -> None:
    fixed = [line for line in changed if line.partition(": ")[0] in FIXED_KEYS]
    if fixed:
        raise RunError(
            "a fork goes on with the old run's tensors, which cannot follow\n  " + "\n  ".join(fixed) + "\n"
            "Take these back; or begin a new run from the student alone: fewstep export "
            f"{folder} --form adapter --to LORA, then student.init_from: LORA"
        )


def _state(place: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((place / STATE).read_text()))
    except (OSError, ValueError) as error:
        raise RunError(f"{place} is damaged ({error}); name another iteration") from error


def _take(place: Path, to: Path) -> None:
    """Takes over a checkpoint, completely or not at all. Its files never change, so they are hard-linked if the disk
    supports it."""
    beside = to.with_name(f"{to.name}.tmp")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(place, beside, copy_function=_linked)
        shutil.rmtree(to, ignore_errors=True)
        os.rename(beside, to)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise durable.refusal(to, error) from error
    if checkpoint_fault(to) is not None:
        raise RunError(f"{place} vanished while it was taken over; name another iteration")


def _linked(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
