"""The other ranks of a run, imagined: this process is the first of them, and whatever it tells them goes nowhere.

torch's "fake" backend does that for its own tools. FSDP2 over it splits, gathers and gives back as over real ranks, so
that an iteration whose weights lie in parts can be rehearsed by one process on tensors that hold nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed import fake_pg  # noqa: F401 - registers the backend
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep.runtime.parallel import Ranks

_Fact = TypeVar("_Fact")


class FakeRanks(Ranks):
    """Ranks of which each holds what this one does."""

    def gather(self, fact: _Fact) -> list[_Fact]:
        return [fact] * self.world


@contextmanager
def fake_ranks(ranks: Ranks) -> Iterator[Ranks]:
    """The first of so many, with the others imagined."""
    if ranks.world == 1:
        yield ranks
        return
    dist.init_process_group("fake", rank=0, world_size=ranks.world, store=dist.HashStore())
    try:
        yield FakeRanks(0, ranks.world, ranks.per_machine)
    finally:
        dist.destroy_process_group()
        _clear_sharding_prop_cache()  # sizes of the first rank's parts, which a process forked later would believe


class FakeEmptyMode(TorchDispatchMode):
    """Memory that is asked for and not filled holds nothing either: FSDP2's buffers, beside weights that do not."""

    def __init__(self, fake: FakeTensorMode):
        super().__init__()
        self._fake = fake

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.empty.memory_format:
            with self._fake:
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
