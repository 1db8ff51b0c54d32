"""Checkpoints of a run with sharded weights: every rank writes its own shards while training goes on."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from fewstep.runtime.durable import refusal
from fewstep.runtime.parallel import Ranks
from fewstep.train import shards
from fewstep.train.checkpoint import (
    Checkpoints,
    Position,
    Tensors,
    file_names,
    state_text,
)
from fewstep.train.file_hashes import hash_files


@dataclass(frozen=True)
class _Pending:
    """A checkpoint whose files are still being written."""

    position: Position
    state: str  # as text, because the counters in it change while training goes on
    best: tuple[int, ...]
    written: Future[dict[str, str]]  # this rank's part of the hashes


class ShardedCheckpoints(Checkpoints):
    """Checkpoints that are written in the background.

    `save` returns as soon as all tensors are copied to the CPU. On each rank a thread writes the copies, and then
    hashes a part of the files. The first rank completes the checkpoint once all threads have ended. If the run is
    killed before, the checkpoint before is the newest complete one.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        say: Callable[[str], None],
        ranks: Ranks,
        on_complete: Callable[[Path], None] = lambda place: None,
    ):
        super().__init__(folder, keep, say, ranks, on_complete)
        # The threads communicate in a process group of their own. In the group of the training, their messages and
        # those of the training would be taken for each other.
        self._group = dist.new_group(backend="gloo")
        self._pending: _Pending | None = None
        self._hashing = ThreadPoolExecutor(1, "fewstep-hashes")

    def save(self, position: Position, tensors: Tensors, state: Mapping[str, Any], best: Collection[int] = ()) -> Path:
        self.finish()
        self.ranks.from_first(lambda: self._begun(position))
        written = shards.write_shards(self._beside(position), tensors, self._group)
        hashed = self._hashing.submit(self._hashed, written, self._beside(position))
        self._pending = _Pending(position, state_text(state), tuple(best), hashed)
        return self.folder / position.name

    def poll(self) -> None:
        if self._pending is not None and all(self.ranks.gather(self._pending.written.done())):
            self.finish()

    def finish(self) -> None:
        """Waits for the checkpoint that is being written, and completes it.

        Raises:
            EnvironmentRefused: on all ranks, if any of them could not write.
        """
        if self._pending is None:
            return
        now, self._pending = self._pending, None
        faults = [fault for fault in self.ranks.gather(_fault(now.written)) if fault is not None]
        if faults:
            raise refusal(self.folder / now.position.name, OSError(faults[0]))
        parts = self.ranks.gather(now.written.result())
        hashes = {name: value for part in parts for name, value in part.items()}
        self.ranks.from_first(lambda: self._seal(now.position, now.state, now.best, hashes))

    def _hashed(self, written: Future[Any], beside: Path) -> dict[str, str]:
        """This rank's part of the hashes. A rank's writing ends when that of all ranks has."""
        written.result()
        return hash_files(beside, file_names(beside)[self.ranks.rank :: self.ranks.world])


def _fault(written: Future[Any]) -> str | None:
    """What went wrong while writing; None if nothing did. Waits until writing has ended."""
    error = written.exception()
    if isinstance(error, CheckpointException):  # all ranks get the fault of one, by rank
        error = next(iter(error.failures.values()))[0] if error.failures else error
    return None if error is None else str(error)
