"""Intra-segment guidance: the student's mean velocity over one segment of its grid, regressed on the teacher's.

Shapes: B batch, N latent tokens, D latent channels; t_k is the noise level of student step k. An Euler step keeps its
velocity from t_k to t_{k+1}, so the student's mean over that segment is v(z_k, t_k). The teacher's mean is where its
own finer walk from the same z_k arrives: (z_{k+1} - z_k) / (t_{k+1} - t_k). The walk is deterministic, so the target
has no noise: its only minimiser is that mean velocity, and there the loss is 0.

It asks for the teacher's picture from the same noise; distribution matching asks for the teacher's law, and at every
step for a clean estimate of that law. For all but the last step the two differ, so the weight trades them. In the field
it is a cure for ghosting and layout drift.
"""

from itertools import pairwise

import torch
from torch import Tensor

from fewstep.flow import path
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity


@torch.no_grad()
def mean_velocity(velocity: Velocity, z_BND: Tensor, start: float, end: float, steps: int) -> Tensor:
    """(z_end - z_start) / (end - start) after so many even Euler steps from noise level `start` down to `end`, fp32."""
    z = z_BND.float()
    levels = [start + (end - start) * n / steps for n in range(steps + 1)]
    for here, there in pairwise(levels):
        z = path.euler_step(z, velocity(z, z.new_full((len(z),), here)).float(), here, there)
    return (z - z_BND.float()) / (end - start)


def segment_loss(
    v_BND: Tensor, teacher: Velocity, z_BND: Tensor, grid: SigmaGrid, k: int, teacher_steps: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """mean |v - teacher's mean velocity from t_k to t_{k+1}|^2 in fp32; and the mean size of the target, for scale.

    Args:
        v_BND: the student's velocity at (z_k, t_k), with gradient.
        z_BND: the state z_k.
        teacher_steps: of the teacher's walk over the segment.
    """
    target_BND = mean_velocity(teacher, z_BND, grid[k], grid.after(k), teacher_steps)
    return (v_BND.float() - target_BND).square().mean(), {"target": target_BND.square().mean()}
