"""The ranks of a run: which one this process is, and how they communicate.

torchrun starts one process for each device, and its environment variables give each its rank. Without torchrun a run is
one rank, and nothing here communicates. Weights are either replicated or sharded over the ranks (`roles/sharding.py`).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from fewstep.runtime.errors import (
    EnvironmentRefused,
    FewstepError,
    RankLost,
    RecipeError,
    RunError,
)
from fewstep.runtime.rank_slice import RankSlice
from fewstep.runtime.torchrun import has_agent_store

FactT = TypeVar("FactT")
STORE_PATIENCE = timedelta(seconds=30)  # ours: the store is on this network, or it is gone
PATIENCE = timedelta(hours=2)  # ours: the others wait while the first rank encodes, examines and exports


@dataclass(frozen=True)
class Ranks:
    """This process is rank `rank` of `world`. per_machine: the number of ranks on this machine."""

    rank: int = 0
    world: int = 1
    per_machine: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the only one that writes files and messages."""
        return self.rank == 0

    @property
    def rank_slice(self) -> RankSlice:
        """This rank's part of the cases."""
        return RankSlice(self.rank, self.world)

    def gather(self, fact: FactT) -> list[FactT]:
        """The values that all ranks pass, in the order of ranks. All ranks must call it."""
        if self.world == 1:
            return [fact]
        facts: list[FactT | None] = [None] * self.world
        dist.all_gather_object(facts, fact)
        return facts  # type: ignore[return-value]

    def from_first(self, make: Callable[[], FactT]) -> FactT:
        """What `make` returns on the first rank, on all ranks. A FewstepError that it raises is raised on all ranks."""
        if self.world == 1:
            return make()
        made: list[FactT | FewstepError | None] = [None]
        if self.first:
            try:
                made = [make()]
            except FewstepError as error:
                made = [error]
        dist.broadcast_object_list(made)
        if isinstance(made[0], FewstepError):
            raise made[0]
        return made[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Waits until every rank calls it."""
        self.gather(None)

    def agree(self, what: str, seen: str) -> None:
        """Checks that all ranks have the same value `seen`. what: names it in the error.

        Raises:
            RunError: on all ranks, if any has another value than the first.
        """
        everyone = self.gather(seen)
        others = [rank for rank, theirs in enumerate(everyone) if theirs != everyone[0]]
        if others:
            raise RunError(
                f"ranks {', '.join(map(str, others))} see other {what} than rank 0. Give every machine the same files: "
                "a shared disk, or copies that are equal"
            )

    @torch.no_grad()
    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks."""
        total = value.clone()
        if self.world > 1:
            dist.all_reduce(total)
        return total

    @torch.no_grad()
    def sum_gradients(self, gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Replaces each gradient by its sum over ranks, in place. Returns the sum of the loss.

        All of them are sent in one transfer. They are sums, not means: losses are weighted by samples already.
        """
        if self.world == 1:
            return loss
        flat = torch.cat([loss.reshape(1).float(), *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        total, *summed = flat.split([1, *(gradient.numel() for gradient in gradients)])
        for gradient, value in zip(gradients, summed, strict=True):
            gradient.copy_(value.view_as(gradient))
        return total[0]


SINGLE_RANK = Ranks()


@torch.no_grad()
def local_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor, without copying. A tensor that is not sharded is returned as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_shard_of(value: Tensor, like: Tensor) -> Tensor:
    """This rank's shard of a value, sharded as `like` is. The value is whole on every rank, or sharded like that
    already."""
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        value = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return local_shard(value)


def dtensor_like(like: Tensor, own: Tensor) -> Tensor:
    """The DTensor of which `own` is this rank's shard, sharded as `like` is. If `like` is not sharded, `own` itself."""
    if not isinstance(like, DTensor):
        return own
    return DTensor.from_local(
        own, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


@torch.no_grad()
def global_norm(likes: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients, those shards included that other ranks hold.

    Copies (HSDP) hold the same gradients, so only the axis that shards is summed over.

    Args:
        likes: the parameters, which say how their gradients are sharded.
        parts: this rank's shards of their gradients.
    """
    # |g| = sqrt(sum over ranks of |g_rank|^2)
    total = torch.nn.utils.get_total_norm(parts)
    split = next((tensor for tensor in likes if isinstance(tensor, DTensor)), None)
    if split is None:
        return total
    assert all(isinstance(tensor, DTensor) for tensor in likes), "a role's weights are all split, or none"
    axis = next(i for i, placement in enumerate(split.placements) if isinstance(placement, Shard))
    squared = total.square()
    dist.all_reduce(squared, group=split.device_mesh.get_group(axis))
    return squared.sqrt()


@contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started, with gloo on CPUs and nccl on GPUs. SINGLE_RANK without torchrun.

    Args:
        device: the recipe's. Under torchrun `cuda` is the GPU of the local rank.

    Raises:
        EnvironmentRefused: some of torchrun's environment variables are missing.
        RecipeError: the recipe names one GPU for several ranks.
        RankLost: another rank has ended while the context was open.
    """
    rank_slice = RankSlice.from_environment()
    if rank_slice.world == 1:
        yield SINGLE_RANK
        return
    if "MASTER_ADDR" not in os.environ or "LOCAL_RANK" not in os.environ:
        raise EnvironmentRefused("WORLD_SIZE is set, LOCAL_RANK or MASTER_ADDR is not; unset it, or use torchrun")
    if device.startswith("cuda:"):
        raise RecipeError(f"run.device {device} would put all {rank_slice.world} ranks on one GPU; make it cuda")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE, **_this_restart(rank_slice))
    try:
        yield Ranks(rank_slice.rank, rank_slice.world, int(os.environ.get("LOCAL_WORLD_SIZE", rank_slice.world)))
    except (dist.DistError, RuntimeError) as error:
        if not _is_connection_error(error):
            raise
        raise RankLost(
            f"rank {rank_slice.rank} of {rank_slice.world} lost another rank: its process has ended, or its machine "
            "cannot be reached. What that process said, or what torchrun says of it below, is why"
        ) from error
    finally:
        dist.destroy_process_group()


def agent_store(environment: Mapping[str, str] = os.environ) -> Any:
    """The store of torchrun's own process, with separate keys after each restart of its workers. None outside torchrun.

    Raises:
        RuntimeError: it cannot be reached.
    """
    if not has_agent_store(environment):
        return None
    store = dist.TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), timeout=STORE_PATIENCE)
    return dist.PrefixStore(f"fewstep {environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _this_restart(rank_slice: RankSlice) -> dict[str, Any]:
    """Arguments for the process group of this restart.

    torchrun restarts ranks when one was lost, and may keep its store. What earlier ranks left there must not be read.
    """
    store = agent_store()
    return {} if store is None else {"store": store, "rank": rank_slice.rank, "world_size": rank_slice.world}


def _is_connection_error(error: Exception) -> bool:
    """Whether the connection between ranks broke. gloo reports that as a plain RuntimeError."""
    if isinstance(error, FewstepError):
        return False
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "onnection closed by peer"))
