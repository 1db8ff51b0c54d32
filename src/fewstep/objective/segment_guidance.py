"""Intra-segment guidance: the student's mean velocity over one segment of its grid, regressed on the teacher's.

Shapes: B batch, N latent tokens, D latent channels; t_k is the noise level of student step k. A segment is the stretch
from t_k to t_{k+1}. An Euler step keeps its velocity over it, so the student's mean is v(z_k, t_k). The teacher takes
several smaller steps from the same z_k. Its mean is given by where it arrives: (z_{k+1} - z_k) / (t_{k+1} - t_k). Its
trajectory is deterministic, so the target has no noise, and the loss is 0 at its only minimiser.

This loss asks for the same picture that the teacher makes from the same noise. Distribution matching asks for the
teacher's distribution only, at each step for clean estimates of that distribution. For all steps but the last the two
have different minima, so the weight is a trade-off. Others use this loss against ghosting and layout drift (field:
Viggle).
"""

from itertools import pairwise

import torch
from torch import Tensor

from fewstep.flow import path
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import Velocity


@torch.no_grad()
def mean_velocity(velocity: Velocity, z_BND: Tensor, start: float, end: float, steps: int) -> Tensor:
    """The mean of `velocity` along its own trajectory from noise level `start` down to `end`, fp32, shape BND.

    z_BND is the state at `start`. The trajectory takes `steps` Euler steps of equal size.
    """
    # (z_end - z_start) / (end - start)
    z = z_BND.float()
    levels = [start + (end - start) * n / steps for n in range(steps + 1)]
    for here, there in pairwise(levels):
        z = path.euler_step(z, velocity(z, z.new_full((len(z),), here)).float(), here, there)
    return (z - z_BND.float()) / (end - start)


def segment_loss(
    v_BND: Tensor, teacher: Velocity, z_BND: Tensor, grid: SigmaGrid, k: int, teacher_steps: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The regression loss of student step k.

    Args:
        v_BND: the student's velocity at (z_k, t_k), with gradient.
        z_BND: the state z_k.
        teacher_steps: the number of the teacher's steps over the segment.

    Returns:
        The loss, a scalar in fp32; and the mean square of its target, under "target".
    """
    # L = E |v_theta(z_k, t_k) - (z_{k+1} - z_k) / (t_{k+1} - t_k)|^2, z_{k+1} the teacher's
    target_BND = mean_velocity(teacher, z_BND, grid[k], grid.after(k), teacher_steps)
    return (v_BND.float() - target_BND).square().mean(), {"target": target_BND.square().mean()}
