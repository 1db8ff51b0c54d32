"""Checkpoints of a run whose weights lie in parts on its ranks: every rank writes its own, while training goes on."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
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
    state_text,
)


@dataclass(frozen=True)
class _Pending:
    """A checkpoint whose files are being written."""

    position: Position
    state: str  # as it was then: its counters go on counting
    best: tuple[int, ...]
    written: Future[Any]


class ShardedCheckpoints(Checkpoints):
    """`save` returns when all tensors are copied to the CPU; a thread of each rank writes the copies. The first rank
    seals a checkpoint once all have ended, so one that a kill interrupts is not there, and the one before it is."""

    def __init__(self, folder: Path, keep: int, say: Callable[[str], None], ranks: Ranks):
        super().__init__(folder, keep, say, ranks)
        # The threads have a line of their own: on the training's they would take each other's messages.
        self._group = dist.new_group(backend="gloo")
        self._pending: _Pending | None = None

    def save(self, position: Position, tensors: Tensors, state: Mapping[str, Any], best: Collection[int] = ()) -> Path:
        self.finish()
        self.ranks.from_first(lambda: self._begun(position))
        written = shards.write_shards(self._beside(position), tensors, self._group)
        self._pending = _Pending(position, state_text(state), tuple(best), written)
        return self.folder / position.name

    def poll(self) -> None:
        if self._pending is not None and all(self.ranks.gather(self._pending.written.done())):
            self.finish()

    def finish(self) -> None:
        """
        Raises:
            EnvironmentRefused: on all ranks, where one could not write.
        """
        if self._pending is None:
            return
        now, self._pending = self._pending, None
        faults = [fault for fault in self.ranks.gather(_fault(now.written)) if fault is not None]
        if faults:
            raise refusal(self.folder / now.position.name, OSError(faults[0]))
        self.ranks.from_first(lambda: self._seal(now.position, now.state, now.best))


def _fault(written: Future[Any]) -> str | None:
    """Waits for its end."""
    error = written.exception()
    if isinstance(error, CheckpointException):  # one rank's fault reaches all, by rank
        error = next(iter(error.failures.values()))[0] if error.failures else error
    return None if error is None else str(error)
