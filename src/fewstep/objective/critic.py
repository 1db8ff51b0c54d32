"""The critic learns the velocity of the student's own distribution: plain flow matching on student samples, no CFG.

Its output is the fake score of distribution matching; it is no GAN discriminator.
"""

from torch import Tensor

from fewstep.flow import path
from fewstep.flow.solver import Velocity


def critic_loss(velocity: Velocity, x0_BND: Tensor, eps_BND: Tensor, t_B: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """mean |v(z_t, t) - (eps - x0)|^2 in fp32 on clean samples x0_BND; and the mean size of the target, for scale."""
    target_BND = path.velocity(x0_BND, eps_BND).float()
    v_BND = velocity(path.noised(x0_BND, eps_BND, t_B), t_B).float()
    return (v_BND - target_BND).square().mean(), {"target": target_BND.square().mean()}
