"""Muon: momentum whose matrix is made orthogonal before the step (Keller Jordan, 2024; facts public, code ours).

Newton-Schulz with the quintic (3.4445, -4.7750, 2.0315) drives all singular values near 1. Matrices of one shape are
stacked, so a step is a few batched products.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Gather = Callable[[Tensor], Tensor]
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalised(g_BMN: Tensor, rounds: int = 5) -> Tensor:
    """Each matrix's nearest near-orthogonal one, in bf16."""
    a, b, c = QUINTIC
    x = g_BMN.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For 2-D weights between hidden layers. `lr` is the step's spectral norm, times sqrt(rows / columns) if above 1.

    `gather` may share the orthogonalisation of a stack among ranks; by default each does all of it.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        decay: float = 0.01,
        gather: Gather | None = None,
    ):
        super().__init__(list(weights), {"lr": lr, "momentum": momentum, "decay": decay})
        self.gather = gather or orthogonalised

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.shape].append(weight)
            for shape, weights in shapes.items():
                self.step_shape(shape, weights, group)

    def step_shape(self, shape: torch.Size, weights: list[Tensor], group: dict[str, float]) -> None:
        directions = []
        for weight, grad in ((w, w.grad) for w in weights if w.grad is not None):
            state = self.state[weight]
            if "velocity" not in state:
                state["velocity"] = torch.zeros_like(weight)
            state["velocity"].lerp_(grad, 1 - group["momentum"])
            directions.append(grad.lerp(state["velocity"], group["momentum"]))
        updates = self.gather(torch.stack(directions)).float()
        rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
        for weight, update in zip(weights, updates, strict=True):
            weight.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-rate)
