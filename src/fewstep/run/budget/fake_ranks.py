"""Fake ranks: this process is the first rank of a run, and what it sends to the others goes nowhere.

torch's "fake" backend does that. Over it, FSDP2 shards, gathers and frees weights as over real ranks. So one process
can rehearse an iteration with sharded weights, on fake tensors.
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
    """Ranks of which each passes the same value as this one."""

    def gather(self, fact: _Fact) -> list[_Fact]:
        return [fact] * self.world


@contextmanager
def fake_ranks(ranks: Ranks) -> Iterator[Ranks]:
    """The first of so many ranks; the others are fake."""
    if ranks.world == 1:
        yield ranks
        return
    dist.init_process_group("fake", rank=0, world_size=ranks.world, store=dist.HashStore())
    try:
        yield FakeRanks(0, ranks.world, ranks.per_machine)
    finally:
        dist.destroy_process_group()
        _clear_sharding_prop_cache()  # it holds shard sizes that a process forked later must not reuse


class FakeEmptyMode(TorchDispatchMode):
    """Makes tensors of `torch.empty` fake as well. FSDP2 allocates its buffers in this way, and they must be fake if
    weights are."""

    def __init__(self, fake: FakeTensorMode):
        super().__init__()
        self._fake = fake

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.empty.memory_format:
            with self._fake:
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
