"""The ranks of a run: which of them this process is, and what they say to each other.

torchrun starts one process a device; its environment says who each is. Without it a run is one rank, and nothing here
communicates. Weights are whole on every rank; only gradients and small facts travel.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fewstep.errors import RunError

Fact = TypeVar("Fact")
PATIENCE = timedelta(hours=2)  # ours: the others wait while the first rank encodes, examines and exports


@dataclass(frozen=True)
class Ranks:
    """`rank` of `world`, the `local`-th of its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """The rank that writes and speaks."""
        return self.rank == 0

    def gather(self, fact: Fact) -> list[Fact]:
        """What every rank holds, in the order of ranks. All ranks must ask."""
        if self.world == 1:
            return [fact]
        facts: list[Fact | None] = [None] * self.world
        dist.all_gather_object(facts, fact)
        return facts  # type: ignore[return-value]

    def wait(self) -> None:
        """Until every rank is here."""
        self.gather(None)

    def agree(self, what: str, seen: str) -> None:
        """
        Raises:
            RunError: on every rank, where some see another `what` than the first.
        """
        everyone = self.gather(seen)
        others = [rank for rank, theirs in enumerate(everyone) if theirs != everyone[0]]
        if others:
            raise RunError(
                f"ranks {', '.join(map(str, others))} see other {what} than rank 0. Give every machine the same files: "
                "a shared disk, or copies that are equal"
            )

    @torch.no_grad()
    def sum_gradients(self, gradients: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Each gradient becomes its sum over ranks, in place; returns the loss's sum. One transfer for all."""
        if self.world == 1:
            return loss
        flat = torch.cat([loss.reshape(1).float(), *(gradient.flatten() for gradient in gradients)])
        dist.all_reduce(flat)
        total, *summed = flat.split([1, *(gradient.numel() for gradient in gradients)])
        for gradient, value in zip(gradients, summed, strict=True):
            gradient.copy_(value.view_as(gradient))
        return total[0]


ALONE = Ranks()


def device_of(name: str, ranks: Ranks) -> str:
    """The recipe's device as this rank takes it: of several GPUs, its own."""
    if ranks.world > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
        return f"cuda:{ranks.local}"
    if ranks.world > 1 and name.startswith("cuda:"):
        raise RunError(f"run.device {name} would put all {ranks.world} ranks on one GPU; make it cuda")
    return name


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started, gloo on the CPU and nccl on GPUs; ALONE without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    where = device_of(device, ranks)
    on_gpu = where.startswith("cuda") and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(ranks.local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
