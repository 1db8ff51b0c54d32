"""One network and the optimiser that owns its parameters, and no others."""

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
    """AdamW on one role's fp32 masters, with its gradient clipped and updates that are not finite skipped.

    Whether to skip is decided on the device, by the fused kernel's own switch: the loop waits for nothing.
    """

    def __init__(self, network: Network, plan: RolePlan, ranks: Ranks = SINGLE_RANK):
        self.network, self.plan, self.ranks = network, plan, ranks
        self.named = network.named_parameters()
        assert self.named, f"the {network.name} has nothing to learn"
        assert all(p.dtype == torch.float32 for p in self.named.values()), "masters are fp32"
        # AdamW works number by number, so this rank steps its parts of split weights as if they were all there is.
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

    def set_lr(self, i: int, iterations: int) -> None:
        """Sets the step size of iteration i of so many: a function of the number alone, so a resumed run has it."""
        left = 1 - i / iterations
        factor = min(1.0, left / self.plan.cooldown) if self.plan.cooldown else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * factor

    def backward(self, loss: Tensor, share: float = 1.0) -> None:
        """Backward under this role (activations may be recomputed). Gradients add up until the next step.

        share: the samples of this loss over those of the whole batch. A loss is a mean over samples, so the batch's is
        the sum of share x loss over parts and ranks.
        """
        loss = share * loss
        with self.network.active():
            loss.backward()
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def step(self) -> dict[str, Tensor]:
        """One step down what was added. Returns the norm before clipping and whether the step was skipped; both follow
        from the sum over ranks and are the same on every one."""
        assert self._loss is not None, "nothing was added"
        loss, norm = self._summed(self._loss)
        skipped = (~(norm.isfinite() & loss.isfinite())).float()
        # Read by the fused kernel (a gradient scaler's way to talk to it): 1 leaves weights and moments as they are.
        self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
        self.optimizer.step()
        for weight in (*self.named.values(), *self.local_shards.values()):
            weight.grad = None
        self._loss = None
        return {"norm": norm, "skipped": skipped}

    def _summed(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """The loss over all ranks, and the gradient's norm; the gradient is summed and clipped in place. Gradients of
        split weights are sums already, each rank's of its parts."""
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
        """The moments as <parameter>/<moment>, of what has had a gradient; empty before the first update. Of split
        weights they lie as these do."""
        held = self.optimizer.state
        return {
            f"{n}/{m}": held[p][m] if m == _COUNT else dtensor_like(self.named[n], held[p][m])
            for n, p in self.local_shards.items()
            if p in held
            for m in _MOMENTS
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned.

        Raises:
            RunError: moments of other parameters.
        """
        # Not all need have had a gradient: with a stopped prefix, say, the text's projections never do.
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
