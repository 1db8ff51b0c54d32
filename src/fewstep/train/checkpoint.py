"""Checkpoints that are either complete or not there.

A checkpoint is a folder of safetensors files and one state.json. It is written into a temporary folder and synced to
the disk. Their hashes stand in hashes.json. The marker, which lists every file with its size, is written last. Then the
folder is renamed. If a run is killed meanwhile, what it leaves has no valid marker, and is skipped.

Replicated weights are written by the first rank, one file for each kind of tensors, which any program can open. Sharded
weights are written by every rank into `shards/` (`ShardedCheckpoints`).
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from fewstep.runtime.durable import make_folder, refusal, sync_to_disk
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.train import file_hashes, shards
from fewstep.train.retention import expired

MARKER = "COMPLETE"
STATE = "state.json"
_NAME = re.compile(r"(?P<phase>warm-up|iteration)-(?P<number>\d+)")

Tensors = Mapping[str, Mapping[str, Tensor]]  # file stem -> tensors by name


@dataclass(frozen=True, order=True)
class Position:
    """The iterations that a run has done, and the critic-only warm-up iterations that it did before the first one."""

    iteration: int = 0
    warm_up: int = 0

    @property
    def name(self) -> str:
        return f"iteration-{self.iteration:06d}" if self.iteration else f"warm-up-{self.warm_up:06d}"


class Checkpoints:
    """The checkpoints of one run, in `folder`.

    Args:
        keep: how many of the newest are kept.
        say: takes a message about each checkpoint that is skipped because it is incomplete.
        on_complete: is called on the first rank with the folder of each checkpoint that was written, before others are
            deleted.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        say: Callable[[str], None] = lambda text: None,
        ranks: Ranks = SINGLE_RANK,
        on_complete: Callable[[Path], None] = lambda place: None,
    ):
        self.folder, self.keep, self.say, self.ranks, self.on_complete = folder, keep, say, ranks, on_complete

    def save(self, position: Position, tensors: Tensors, state: Mapping[str, Any], best: Collection[int] = ()) -> Path:
        """Writes one. Then deletes those that are neither among the newest `keep` nor of the best iterations. All ranks
        call it.

        Args:
            tensors: by file stem and name.
            state: what else is needed to resume, as JSON.
            best: the iterations whose checkpoints are kept as the best.

        Raises:
            EnvironmentRefused: no space, or no permission. The earlier checkpoints are untouched.
        """
        self.ranks.from_first(lambda: self._write(position, tensors, state, best))
        return self.folder / position.name

    def poll(self) -> None:
        """Called between iterations: finishes what can be finished without waiting. All ranks call it."""

    def finish(self) -> None:
        """Waits until everything is written. All ranks call it."""

    def _write(self, position: Position, tensors: Tensors, state: Mapping[str, Any], best: Collection[int]) -> None:
        beside = self._begun(position)
        with self._refusing(position):
            for stem, named in tensors.items():
                save_file({n: t.detach().contiguous() for n, t in named.items()}, beside / f"{stem}.safetensors")
        self._seal(position, state_text(state), best, {})

    def _begun(self, position: Position) -> Path:
        """Makes the empty temporary folder of a checkpoint."""
        beside = self._beside(position)
        with self._refusing(position):
            make_folder(self.folder)
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
        return beside

    def _seal(self, position: Position, state: str, best: Collection[int], hashes: Mapping[str, str]) -> None:
        """Turns the temporary folder into the checkpoint.

        Args:
            state: as `state_text` returns it.
            hashes: of the files that are hashed already.
        """
        beside, place = self._beside(position), self.folder / position.name
        with self._refusing(position):
            (beside / STATE).write_text(state)
            left = [name for name in file_names(beside) if name not in hashes]
            file_hashes.write_hashes(beside, {**hashes, **file_hashes.hash_files(beside, left)})
            files = [file for file in sorted(beside.rglob("*")) if file.is_file()]
            for path in (*files, *{file.parent for file in files}):
                sync_to_disk(path)
            sizes = {file.relative_to(beside).as_posix(): file.stat().st_size for file in files}
            (beside / MARKER).write_text(json.dumps(sizes, indent=1) + "\n")
            sync_to_disk(beside / MARKER)
            sync_to_disk(beside)
            shutil.rmtree(place, ignore_errors=True)
            os.rename(beside, place)
            sync_to_disk(self.folder)
        self.on_complete(place)
        self._retain(best)

    def _beside(self, position: Position) -> Path:
        return self.folder / f"{position.name}.tmp"

    @contextmanager
    def _refusing(self, position: Position) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            shutil.rmtree(self._beside(position), ignore_errors=True)
            raise refusal(self.folder / position.name, error) from error

    def latest(self) -> Path | None:
        """The newest complete checkpoint; None if there is none."""
        return self._newest(checkpoint_fault)

    def latest_intact(self) -> Path | None:
        """The newest complete checkpoint whose files are what was written. All its files are read."""
        return self._newest(content_fault)

    def _newest(self, fault_of: Callable[[Path], str | None]) -> Path | None:
        for place in reversed(self._places()):
            fault = fault_of(place)
            if fault is None:
                return place
            self.say(f"{place} is passed over: {fault}")
        return None

    def newest(self) -> Path | None:
        """The newest checkpoint, complete or not."""
        return next(reversed(self._places()), None)

    def complete_iterations(self) -> set[int]:
        """The iterations of complete checkpoints."""
        named = [(match, place) for place in self._places() if (match := _NAME.fullmatch(place.name))]
        return {int(m["number"]) for m, place in named if m["phase"] == "iteration" and checkpoint_fault(place) is None}

    def _places(self) -> list[Path]:
        """All checkpoint folders, complete or not, oldest first: those of the warm-up come before the others."""
        found = [
            (match["phase"] == "iteration", int(match["number"]), place)
            for place in self._entries()
            if (match := _NAME.fullmatch(place.name))
        ]
        return [place for _, _, place in sorted(found)]

    def _entries(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _retain(self, best: Collection[int]) -> None:
        spared = {Position(iteration).name for iteration in best}
        for name in expired([place.name for place in self._places()], self.keep, spared):
            shutil.rmtree(self.folder / name, ignore_errors=True)  # safe if interrupted: the marker lists all files
        for left in self.folder.glob("*.tmp"):
            shutil.rmtree(left, ignore_errors=True)


def state_text(state: Mapping[str, Any]) -> str:
    return json.dumps(state, indent=1) + "\n"


def checkpoint_fault(place: Path) -> str | None:
    """What is wrong with a checkpoint's folder; None if it is complete."""
    try:
        sizes = json.loads((place / MARKER).read_text())
    except FileNotFoundError:
        return "it was not finished"
    except (ValueError, OSError):
        return f"its {MARKER} cannot be read"
    for name, size in sizes.items():
        if not (place / name).is_file() or (place / name).stat().st_size != size:
            return f"its {name} is missing or cut short"
    return None


def content_fault(place: Path, names: Collection[str] | None = None) -> str | None:
    """What is wrong with a checkpoint's folder or the content of its files; None if nothing is.

    names: the files to read; None means all. A checkpoint of an earlier version has no hashes, so that only sizes tell.
    """
    try:
        changed = file_hashes.changed_files(place, names) if (fault := checkpoint_fault(place)) is None else []
    except OSError as error:
        return f"a file of it cannot be read ({error})"
    return fault or (f"its {', '.join(changed)} is not what was written (the hash differs)" if changed else None)


def file_names(folder: Path) -> list[str]:
    """All files in a folder, as paths relative to it."""
    return [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]


def load_checkpoint(
    place: Path,
    device: torch.device | str = "cpu",
    template: shards.TemplateLookup = lambda stem, name: None,
    stems: Collection[str] | None = None,
    checked: bool = False,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors of a complete checkpoint, by file stem and name, and its state. Any number of ranks may have written
    it.

    Args:
        template: for tensors that were written as shards, a tensor placed as this one is wanted here (for example a
            sharded parameter); None means whole.
        stems: the file stems to read; None means all.
        checked: the files were compared with their hashes already.

    Raises:
        RunError: a file is damaged.
    """
    if not checked and (fault := content_fault(place, files_of(place, stems))) is not None:
        raise _damaged(place, fault)
    try:
        if (place / shards.FOLDER).is_dir():
            tensors = shards.read_shards(place, device, template, stems)
        else:
            files = [file for file in sorted(place.glob("*.safetensors")) if stems is None or file.stem in stems]
            tensors = {file.stem: load_file(file, device=str(device)) for file in files}
        return tensors, json.loads((place / STATE).read_text())
    except (SafetensorError, CheckpointException, ValueError, OSError) as error:
        raise _damaged(place, str(error)) from error


def files_of(place: Path, stems: Collection[str] | None) -> Collection[str] | None:
    """The files of a checkpoint that are read for these stems; None means all."""
    if stems is None:
        return None
    read = [name for name in file_names(place) if name.startswith(f"{shards.FOLDER}/") and stems]
    return {STATE, *(f"{stem}.safetensors" for stem in stems), *read}


def _damaged(place: Path, fault: str) -> RunError:
    return RunError(f"{place} is damaged: {fault}. Delete this folder, and the one before it is used")
