"""Two processes of one thread each: on a shared machine they lose less time waiting than one process of two threads."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


class TeacherRanks:
    """What the training loop exchanges with its fellow processes; with one process, every call returns its own
    value."""

    def __init__(self, rank: int = 0, world: int = 1, init_method: str | None = None):
        self.rank, self.world = rank, world
        if world > 1:
            dist.init_process_group("gloo", init_method=init_method, rank=rank, world_size=world)

    def average_gradients(self, model: nn.Module) -> None:
        if self.world == 1:
            return
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def from_rank_zero(self, number: float) -> float:
        """Rank 0's number, for all ranks: their clocks must agree."""
        if self.world == 1:
            return number
        shared = torch.tensor([number if self.rank == 0 else 0.0], dtype=torch.float64)
        dist.all_reduce(shared)  # not a broadcast, because its sender would not wait for the others
        return float(shared)

    def flag_of_rank_zero(self, flag: bool) -> bool:
        return bool(self.from_rank_zero(float(flag)))
