"""The deterministic sampler: Euler steps along a grid. Rollouts in training and sampling at inference both walk here,
so a student is trained on the states it will meet."""

from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from fewstep.flow import path
from fewstep.flow.sigmas import SigmaGrid


class Velocity(Protocol):
    """v(z, t) of one network with its conditioning bound. z_BND, t_B in (0, 1]; the answer has z's shape."""

    def __call__(self, z_BND: Tensor, t_B: Tensor, /) -> Tensor: ...


def trajectory(velocity: Velocity, z_BND: Tensor, grid: SigmaGrid, steps: int | None = None) -> list[Tensor]:
    """All states from noise to picture: len(grid) + 1 tensors BND, one network evaluation between neighbours; or only
    those of the first `steps` steps.

    Times are float32 at least: bfloat16 states must not round sigma before the family scales it."""
    states = [z_BND]
    exact = torch.promote_types(z_BND.dtype, torch.float32)
    for k, sigma in islice(enumerate(grid), steps):
        z = states[-1]
        v = velocity(z, z.new_full((z.shape[0],), sigma, dtype=exact))
        states.append(path.euler_step(z, v, sigma, grid.after(k)))
    return states
