"""The student's rollout: its states from noise to picture, on the grid that is shipped.

Training on the student's own states, not on noised data, is what DMD2 (arXiv 2405.14867, sec. 4.5) calls backward
simulation: the student learns from the states that it will meet at inference.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity, trajectory


@dataclass(frozen=True)
class Rollout:
    """The states z_k of the student along `grid`, without gradient. states[k], of shape BND, is the input of student
    step k.

    There are K + 1 of them, or fewer if the rollout ended after a given step.
    """

    grid: SigmaGrid
    states: tuple[Tensor, ...]

    def time(self, k: int) -> Tensor:
        """t_B of student step k."""
        z_BND = self.states[k]
        return z_BND.new_full((z_BND.shape[0],), self.grid[k])

    def clean(self, k: int) -> Tensor:
        """The clean estimate x0_BND of student step k, without another forward of the student.

        The velocity of an Euler step can be read off its two ends. The last step ends in x0 itself.
        """
        # v = (z_{k+1} - z_k) / (sigma_{k+1} - sigma_k), hence x0 = z_k - sigma_k v    [Qwen-Image-2.0 report, sec. 4.3]
        here, there = self.grid[k], self.grid.after(k)
        if there == 0.0:
            return self.states[k + 1]
        return torch.lerp(self.states[k], self.states[k + 1], here / (here - there))

    def clean_at(self, steps_B: Tensor) -> Tensor:
        """Row b is the clean estimate of sample b at student step steps_B[b], of a rollout over all K steps."""
        estimates_KBND = torch.stack([self.clean(k) for k in range(len(self.grid))])
        return estimates_KBND[steps_B, torch.arange(len(steps_B), device=steps_B.device)]


def roll_out(velocity: Velocity, eps_BND: Tensor, grid: SigmaGrid, last: int | None = None) -> Rollout:
    """The student's states from the noise eps_BND on, without gradient. Every shipped grid starts at sigma 1.

    Args:
        velocity: the student, with its conditioning bound.
        last: the last student step to take; None means all K.
    """
    # z_{k+1} = z_k + (sigma_{k+1} - sigma_k) v_theta(z_k, sigma_k)    [DMD2, arXiv 2405.14867, sec. 4.5]
    with torch.no_grad():
        return Rollout(grid, tuple(trajectory(velocity, eps_BND, grid, None if last is None else last + 1)))
