"""The loss of the critic, which learns the velocity of the student's own distribution.

It is plain flow matching on samples of the student, without classifier-free guidance. The critic gives the fake score
of distribution matching; it is no GAN discriminator.
"""

from torch import Tensor

from fewstep.flow import path
from fewstep.flow.solver import Velocity


def critic_loss(velocity: Velocity, x0_BND: Tensor, eps_BND: Tensor, t_B: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The flow-matching loss of `velocity` on clean samples of the student, computed in fp32.

    Args:
        velocity: the critic, with its conditioning bound.
        x0_BND: the student's clean samples, without gradient.
        eps_BND: standard normal noise.
        t_B: times in (0, 1).

    Returns:
        The loss, a scalar; and the mean square of its target, against which the loss can be judged.
    """
    # L = E |v(z_t, t) - (eps - x0)|^2, z_t = (1 - t) x0 + t eps    [DMD, arXiv 2311.18828, eq. 6, in velocities]
    target_BND = path.velocity(x0_BND, eps_BND).float()
    v_BND = velocity(path.noised(x0_BND, eps_BND, t_B), t_B).float()
    return (v_BND - target_BND).square().mean(), {"target": target_BND.square().mean()}
