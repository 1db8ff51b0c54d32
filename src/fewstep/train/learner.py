"""One network and the optimiser that owns its parameters, and no others."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fewstep.errors import RunError
from fewstep.parallel import ALONE, Ranks
from fewstep.roles.network import Network
from fewstep.roles.plan import LearnerPlan

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Learner:
    """AdamW on one role's fp32 masters, with its gradient clipped and updates that are not finite skipped.

    Whether to skip is decided on the device, by the fused kernel's own switch: the loop waits for nothing.
    """

    def __init__(self, network: Network, plan: LearnerPlan, ranks: Ranks = ALONE):
        self.network, self.plan, self.ranks = network, plan, ranks
        self.named = network.named_parameters()
        assert self.named, f"the {network.name} has nothing to learn"
        assert all(p.dtype == torch.float32 for p in self.named.values()), "masters are fp32"
        self.optimiser = torch.optim.AdamW(
            self.named.values(),
            lr=plan.learning_rate,
            betas=plan.betas,
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self._loss: Tensor | None = None  # of what was added since the last step

    def pace(self, i: int, iterations: int) -> None:
        """Sets the step size of iteration i of so many: a function of the number alone, so a resumed run has it."""
        left = 1 - i / iterations
        factor = min(1.0, left / self.plan.cooldown) if self.plan.cooldown else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * factor

    def add(self, loss: Tensor, share: float = 1.0) -> None:
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
        gradients = [p.grad for p in self.named.values() if p.grad is not None]
        loss = self.ranks.sum_gradients(gradients, self._loss)
        norm = torch.nn.utils.clip_grad_norm_(self.named.values(), self.plan.clip)
        skipped = (~(norm.isfinite() & loss.isfinite())).float()
        # Read by the fused kernel (a gradient scaler's way to talk to it): 1 leaves weights and moments as they are.
        self.optimiser.found_inf = skipped  # type: ignore[attr-defined]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._loss = None
        return {"norm": norm, "skipped": skipped}

    def state(self) -> dict[str, Tensor]:
        """The moments as <parameter>/<moment>, of what has had a gradient; empty before the first update."""
        held = self.optimiser.state
        return {f"{n}/{m}": held[p][m] for n, p in self.named.items() if p in held for m in _MOMENTS}

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
        self.optimiser.state.clear()
        for name in moved:
            parameter = self.named[name]
            self.optimiser.state[parameter] = {m: state[f"{name}/{m}"].to(parameter.device) for m in _MOMENTS}
