"""The straight path between picture and noise, and what follows from it.

Shapes: B batch, N latent tokens, D channels of a token. t_B lies in [0, 1]; t = 1 is pure noise.
z_t = (1 - t) x0 + t eps has the velocity v = eps - x0. Hence x0 = z_t - t v and eps = z_t + (1 - t) v.
On this path the noise level sigma of the samplers equals t. Sources: rectified flow (arXiv 2209.03003), whose time runs
the other way, and the preliminaries of the paper (arXiv 2606.03746).
"""

from torch import Tensor


def _per_sample(t_B: Tensor, like: Tensor) -> Tensor:
    return t_B.reshape(-1, *[1] * (like.dim() - 1))


def noised(x0_BND: Tensor, eps_BND: Tensor, t_B: Tensor) -> Tensor:
    """z_t, the point at time t on the straight line from x0 to eps."""
    # z_t = (1 - t) x0 + t eps    [the paper, preliminaries; DMD (arXiv 2311.18828) eq. 3 with alpha = 1 - t, sigma = t]
    t = _per_sample(t_B, x0_BND)
    return (1 - t) * x0_BND + t * eps_BND


def velocity(x0_BND: Tensor, eps_BND: Tensor) -> Tensor:
    """dz/dt of that line. It is constant along the line, and a flow-matching network is trained to predict it."""
    # v = eps - x0    [rectified flow, arXiv 2209.03003]
    return eps_BND - x0_BND


def clean(z_BND: Tensor, v_BND: Tensor, t_B: Tensor) -> Tensor:
    """The clean latent x0 that velocity v implies at z_t."""
    # x0 = z_t - t v, since v = eps - x0
    return z_BND - _per_sample(t_B, z_BND) * v_BND


def noise(z_BND: Tensor, v_BND: Tensor, t_B: Tensor) -> Tensor:
    """The noise eps that velocity v implies at z_t."""
    # eps = z_t + (1 - t) v, since v = eps - x0
    return z_BND + (1 - _per_sample(t_B, z_BND)) * v_BND


def score(z_BND: Tensor, v_BND: Tensor, t_B: Tensor) -> Tensor:
    """The score grad log p_t(z) that velocity v implies; t must be above 0.

    It is affine in v. So mixing velocities with weights that sum to 1 mixes the scores with the same weights.
    """
    # s = -(z - (1 - t) x0) / t^2 = -eps / t    [DMD, arXiv 2311.18828, eq. 4 and 5]
    return -noise(z_BND, v_BND, t_B) / _per_sample(t_B, z_BND)


def euler_step(z_BND: Tensor, v_BND: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """One step of the deterministic sampler, from noise level sigma down to sigma_next."""
    # z' = z + (sigma' - sigma) v    [Euler's method on dz/dt = v; rectified flow, arXiv 2209.03003]
    return z_BND + (sigma_next - sigma) * v_BND
