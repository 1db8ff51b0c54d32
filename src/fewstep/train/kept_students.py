"""The averaged students of all saved iterations of a run. They stay when their checkpoints are deleted.

Quality has an optimum, and it is often known only after the run. What ships of an iteration is the averaged student
alone: for a LoRA a sixth of a checkpoint. So each save leaves it in RUN/students:

    iteration-000600.safetensors    the checkpoint's own file, hard-linked where the file system allows it
    iteration-000600/shards/        of a run with sharded weights: the files of all ranks, in any number
    iteration-000600.json           iteration, samples by task, and size and hash of each file; written last

Nothing here is ever deleted. An iteration that runs again replaces what it left before.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from fewstep.runtime import durable
from fewstep.runtime.errors import RunError
from fewstep.train import file_hashes, shards
from fewstep.train.checkpoint import (
    STATE,
    Checkpoints,
    Position,
    load_checkpoint,
)

FOLDER = "students"
STEM = "student_average"  # of a checkpoint's files
FORMAT = 1  # of the record
_RECORD = re.compile(r"iteration-(\d+)\.json")


@dataclass(frozen=True)
class KeptStudent:
    """An averaged student that can be loaded. tasks: samples that it has learnt from, by task. place: its file, or the
    folder of its shards or of its checkpoint."""

    iteration: int
    tasks: Mapping[str, int]
    place: Path


class KeptStudents:
    """The averaged students of the run in folder `run`, for reading at any time, also while the run goes on.

    An iteration whose checkpoint is complete counts too, whether or not its student was kept beside it: runs of earlier
    versions kept none.
    """

    def __init__(self, run: Path):
        self.run, self.folder = run, run / FOLDER
        self._checkpoints = Checkpoints(run / "checkpoints", keep=1)

    def iterations(self) -> list[int]:
        """The iterations whose averaged student can be loaded, in order."""
        return sorted({*self._recorded(), *self._checkpointed()})

    def find(self, iteration: int) -> KeptStudent:
        """
        Raises:
            RunError: there is none. The message lists those that are there.
        """
        if (record := self._record(iteration)) is not None:
            return KeptStudent(iteration, record["tasks"], self._place(iteration))
        if iteration in self._checkpointed():
            place = self._checkpoints.folder / Position(iteration).name
            return KeptStudent(iteration, _state(place)["tasks"], place)
        held = ", ".join(map(str, self.iterations())) or "none"
        raise RunError(f"{self.run} keeps no student of iteration {iteration}; it has: {held}")

    def load(self, iteration: int, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The weights by name, whole, in fp32: of an adapter, or of the whole transformer (student.mode full).

        Raises:
            RunError: there is none, or its files are not what was written.
        """
        record = self._record(iteration)
        if record is None:
            return load_checkpoint(self.find(iteration).place, device, stems=[STEM])[0][STEM]
        place = self._place(iteration)
        hashes = {name: file["hash"] for name, file in record["files"].items()}
        try:
            found = file_hashes.hash_files(self.folder, list(hashes))
            if changed := [name for name, value in found.items() if value != hashes[name]]:
                raise self._damaged(place, f"{', '.join(changed)} is not what was written (the hash differs)")
            if place.is_dir():
                return shards.read_shards(place, device, lambda stem, name: None, [STEM])[STEM]
            return load_file(place, device=str(device))
        except (SafetensorError, CheckpointException, ValueError, OSError) as error:
            raise self._damaged(place, str(error)) from error

    # ---- written by the run

    def keep(self, checkpoint: Path) -> None:
        """Keeps the student of a complete checkpoint: whole, or not at all if it is interrupted.

        A sharded checkpoint of an earlier version holds its student in one file with everything else, so nothing is
        kept of it. A checkpoint of the warm-up has no student yet.

        Raises:
            EnvironmentRefused: no space, or no permission.
        """
        state, files = _state(checkpoint), _student_files(checkpoint)
        if not state["iteration"] or not files:
            return
        iteration = int(state["iteration"])
        named = {self._named(iteration, file): checkpoint / file for file in files}
        hashes = _hashes(checkpoint, files)
        record = {
            "format": FORMAT,
            "iteration": iteration,
            "tasks": state["tasks"],
            "files": {
                name: {"size": source.stat().st_size, "hash": hashes[source.relative_to(checkpoint).as_posix()]}
                for name, source in named.items()
            },
        }
        if self._record(iteration) != record:
            self._write(iteration, named, record)

    def complete(self) -> None:
        """Keeps what a run that was killed between a save and `keep`, or a run of an earlier version, has not kept."""
        for left in (*self.folder.glob(".*.tmp"), *self.folder.glob("*/*/.*.tmp")):
            left.unlink(missing_ok=True)
        for iteration in sorted(self._checkpoints.complete_iterations()):
            self.keep(self._checkpoints.folder / Position(iteration).name)

    def take_over(self, origin: "KeptStudents", until: int) -> None:
        """Keeps the students of another run up to an iteration, for a fork of it."""
        for iteration, record in origin._recorded().items():
            if iteration <= until:
                self._write(iteration, {name: origin.folder / name for name in record["files"]}, record)

    def _write(self, iteration: int, named: Mapping[str, Path], record: Mapping[str, Any]) -> None:
        """Links or copies files, by their names here, and then writes the record."""
        durable.make_folder(self.folder)
        place, told = self._place(iteration), self._record_file(iteration)
        try:
            told.unlink(missing_ok=True)  # until all files are those of the new record
            shutil.rmtree(self._shards(iteration), ignore_errors=True)
            for name, source in named.items():
                durable.make_folder((self.folder / name).parent)
                durable.replace_atomically(self.folder / name, partial(_take, source))
        except OSError as error:
            raise durable.refusal(place, error) from error
        durable.write_atomically(told, json.dumps(record, indent=1) + "\n")

    # ---- names and records

    def _named(self, iteration: int, file: str) -> str:
        """The name here of a checkpoint's file."""
        stem = Position(iteration).name
        return f"{stem}/{file}" if file.startswith(f"{shards.FOLDER}/") else f"{stem}.safetensors"

    def _shards(self, iteration: int) -> Path:
        return self.folder / Position(iteration).name

    def _place(self, iteration: int) -> Path:
        folder = self._shards(iteration)
        return folder if folder.is_dir() else folder.with_name(f"{folder.name}.safetensors")

    def _record_file(self, iteration: int) -> Path:
        return self.folder / f"{Position(iteration).name}.json"

    def _recorded(self) -> dict[int, dict[str, Any]]:
        entries = self.folder.iterdir() if self.folder.is_dir() else []
        numbers = sorted(int(match[1]) for path in entries if (match := _RECORD.fullmatch(path.name)))
        return {number: record for number in numbers if (record := self._record(number)) is not None}

    def _record(self, iteration: int) -> dict[str, Any] | None:
        """What is recorded of a student whose files have their sizes; None if there is none."""
        try:
            record: dict[str, Any] = json.loads(self._record_file(iteration).read_text())
            sizes = {name: file["size"] for name, file in record["files"].items()}
            whole = all((self.folder / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if whole else None

    def _checkpointed(self) -> set[int]:
        """The iterations of complete checkpoints with an averaged student."""
        return self._checkpoints.complete_iterations()

    def _damaged(self, place: Path, fault: str) -> RunError:
        held = ", ".join(map(str, self.iterations()))
        return RunError(f"{place} cannot be used: {fault}. Name another iteration; kept are: {held}")


def _student_files(checkpoint: Path) -> list[str]:
    """The files of a checkpoint that hold its averaged student and nothing else."""
    whole = f"{STEM}.safetensors"
    if (checkpoint / whole).is_file():
        return [whole]
    return shards.files_of_stem(checkpoint, STEM)


def _hashes(checkpoint: Path, files: list[str]) -> dict[str, str]:
    """The hashes that the checkpoint states. One of an earlier version states none."""
    stated = file_hashes.stated_hashes(checkpoint)
    return (
        {name: stated[name] for name in files}
        if set(files) <= set(stated)
        else file_hashes.hash_files(checkpoint, files)
    )


def _state(checkpoint: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((checkpoint / STATE).read_text()))
    except (OSError, ValueError) as error:
        raise RunError(f"{checkpoint} is damaged ({error}); name another iteration") from error


def _take(source: Path, to: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    to.unlink(missing_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)
