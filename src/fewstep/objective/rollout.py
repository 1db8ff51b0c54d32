"""The student's own walk from noise to picture, on the grid that is shipped."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity, trajectory


@dataclass(frozen=True)
class Rollout:
    """The states of a walk along `grid`, none with a gradient: all K + 1, or those up to the step that was asked for.
    states[k] is what student step k is given."""

    grid: SigmaGrid
    states: tuple[Tensor, ...]

    def time(self, k: int) -> Tensor:
        """t_B of student step k."""
        z_BND = self.states[k]
        return z_BND.new_full((z_BND.shape[0],), self.grid[k])

    def clean(self, k: int) -> Tensor:
        """The clean estimate x0_BND of student step k, without a forward: an Euler step keeps its velocity.

        v = (z_{k+1} - z_k) / (sigma_{k+1} - sigma_k), hence x0 = z_k - sigma_k v; the last step ends in x0 itself.
        """
        here, there = self.grid[k], self.grid.after(k)
        if there == 0.0:
            return self.states[k + 1]
        return torch.lerp(self.states[k], self.states[k + 1], here / (here - there))

    def clean_at(self, steps_B: Tensor) -> Tensor:
        """Row b is sample b's clean estimate at student step steps_B[b], of a whole walk."""
        estimates_KBND = torch.stack([self.clean(k) for k in range(len(self.grid))])
        return estimates_KBND[steps_B, torch.arange(len(steps_B), device=steps_B.device)]


def roll_out(velocity: Velocity, eps_BND: Tensor, grid: SigmaGrid, last: int | None = None) -> Rollout:
    """Steps without gradient from the noise eps_BND (sigma of the first step is 1 on every shipped grid): all K, or
    those up to student step `last` and through it."""
    with torch.no_grad():
        return Rollout(grid, tuple(trajectory(velocity, eps_BND, grid, None if last is None else last + 1)))
