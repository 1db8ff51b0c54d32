"""The deterministic sampler: Euler steps along a grid.

Rollouts in training and sampling at inference both use it. So a student is trained on the states that it will meet.
"""

from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from fewstep.flow import path
from fewstep.flow.sigmas import SigmaGrid


class Velocity(Protocol):
    """v(z, t) of one network with its conditioning bound. t_B lies in (0, 1]; the result has the shape of z_BND."""

    def __call__(self, z_BND: Tensor, t_B: Tensor, /) -> Tensor: ...


def trajectory(velocity: Velocity, z_BND: Tensor, grid: SigmaGrid, steps: int | None = None) -> list[Tensor]:
    """The states from noise to picture: len(grid) + 1 tensors BND, one network evaluation between neighbours.

    Times are float32 at least. In the dtype of bfloat16 states sigma would be rounded (0.98 becomes 0.98046875) before
    the family scales it for its network.

    Args:
        z_BND: the state at noise level grid[0].
        steps: take only so many steps; None means all of them.
    """
    states = [z_BND]
    exact = torch.promote_types(z_BND.dtype, torch.float32)
    for k, sigma in islice(enumerate(grid), steps):
        z = states[-1]
        v = velocity(z, z.new_full((z.shape[0],), sigma, dtype=exact))
        states.append(path.euler_step(z, v, sigma, grid.after(k)))
    return states
