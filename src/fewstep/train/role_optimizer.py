"""The optimizer of one role. It owns the parameters of that role's network, and no others."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from fewstep.roles.network import Network
from fewstep.roles.plan import RolePlan
from fewstep.runtime.errors import RunError
from fewstep.runtime.parallel import (
    SINGLE_RANK,
    Ranks,
    dtensor_like,
    global_norm,
    local_shard,
    local_shard_of,
)

_COUNT = "step"
_MOMENTS = (_COUNT, "exp_avg", "exp_avg_sq")


class RoleOptimizer:
    """AdamW (arXiv 1711.05101) on the fp32 master weights of one role. Gradients are clipped, and updates that are not
    finite are skipped.

    Whether to skip is decided on the device, by a switch of the fused kernel. So the loop does not wait for the device.
    """

    def __init__(self, network: Network, plan: RolePlan, ranks: Ranks = SINGLE_RANK):
        self.network, self.plan, self.ranks = network, plan, ranks
        self.named = network.named_parameters()
        assert self.named, f"the {network.name} has nothing to learn"
        assert all(p.dtype == torch.float32 for p in self.named.values()), "masters are fp32"
        # AdamW works element by element. So each rank updates its own shards as if there were no others.
        self.local_shards = {name: local_shard(weight) for name, weight in self.named.items()}
        self.is_sharded = any(isinstance(weight, DTensor) for weight in self.named.values())
        self.optimizer = torch.optim.AdamW(
            self.local_shards.values(),
            lr=plan.learning_rate,
            betas=plan.betas,
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self._loss: Tensor | None = None  # of what was added since the last step

    def set_lr(self, i: int, iterations: int, before: int = 0) -> None:
        """Sets the learning rate of iteration i. It depends on i alone, so a resumed run has the same.

        It rises linearly over the first `lr_warmup` iterations, is constant, and falls linearly to 0 over the last
        `cooldown` share of the iterations.

        before: iterations of this role alone, before the first: they count for the rise.
        """
        left = 1 - i / iterations
        factor = min(1.0, left / self.plan.cooldown) if self.plan.cooldown else 1.0
        if self.plan.lr_warmup:
            factor *= min(1.0, (before + i + 1) / self.plan.lr_warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * factor

    def backward(self, loss: Tensor, share: float = 1.0) -> None:
        """Backpropagates a loss of one part of the batch. Gradients add up until the next step.

        The role is held on meanwhile: with gradient checkpointing the backward pass runs forwards again, and under
        another role they would use another adapter.

        Args:
            loss: a mean over the samples of the part.
            share: the number of those samples over the number in the whole batch, on all ranks. The loss of the whole
                batch is the sum of share x loss over parts and ranks, also when parts are of unequal size.
        """
        loss = share * loss
        with self.network.active():
            loss.backward()
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def step(self) -> dict[str, Tensor]:
        """One step along the gradients added so far, which are cleared.

        Returns the gradient norm before clipping, and whether the step was skipped (1.0 or 0.0). Both are computed from
        sums over ranks, so they are the same on every rank: no rank skips an update that another one takes.
        """
        assert self._loss is not None, "nothing was added"
        loss, norm = self._summed(self._loss)
        skipped = (~(norm.isfinite() & loss.isfinite())).float()
        # The fused kernel reads this attribute, which gradient scalers use: 1 leaves weights and moments unchanged.
        self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
        self.optimizer.step()
        for weight in (*self.named.values(), *self.local_shards.values()):
            weight.grad = None
        self._loss = None
        return {"norm": norm, "skipped": skipped}

    def _summed(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the whole batch and the norm of its gradient. Gradients are summed over ranks and clipped in
        place.

        Gradients of sharded weights are already sums: FSDP's reduce-scatter adds them, and each rank holds the sum for
        its shards (`roles/sharding.py`). Only their norm still needs all ranks.
        """
        if not self.is_sharded:
            gradients = [p.grad for p in self.named.values() if p.grad is not None]
            loss = self.ranks.sum_gradients(gradients, loss)
            return loss, torch.nn.utils.clip_grad_norm_(self.named.values(), self.plan.clip)
        moved = {name: weight for name, weight in self.named.items() if weight.grad is not None}
        for name, weight in moved.items():
            assert weight.grad is not None
            self.local_shards[name].grad = local_shard(weight.grad)
        parts = [self.local_shards[name] for name in moved]
        total = global_norm(list(moved.values()), [p.grad for p in parts if p.grad is not None])
        torch.nn.utils.clip_grads_with_norm_(parts, self.plan.clip, total)
        return self.ranks.sum(loss), total

    def state(self) -> dict[str, Tensor]:
        """The moments by <parameter>/<moment>, of parameters that have had a gradient. Empty before the first update.
        Moments of sharded weights are DTensors placed as those are."""
        held = self.optimizer.state
        return {
            f"{n}/{m}": held[p][m] if m == _COUNT else dtensor_like(self.named[n], held[p][m])
            for n, p in self.local_shards.items()
            if p in held
            for m in _MOMENTS
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned.

        Raises:
            RunError: moments of other parameters.
        """
        # Some parameters may never have had a gradient, such as the text's projections with a stopped prefix.
        moved = {key.rsplit("/", 1)[0] for key in state}
        if not moved <= self.named.keys() or state.keys() != {f"{name}/{m}" for name in moved for m in _MOMENTS}:
            raise RunError(
                f"the optimiser of the {self.network.name} was saved for other parameters. "
                "Start a new run folder, or restore the recipe this one began with"
            )
        self.optimizer.state.clear()
        for name in moved:
            weight, own = self.named[name], self.local_shards[name]
            self.optimizer.state[own] = {
                m: (state[f"{name}/{m}"] if m == _COUNT else local_shard_of(state[f"{name}/{m}"], weight)).to(
                    own.device
                )
                for m in _MOMENTS
            }
