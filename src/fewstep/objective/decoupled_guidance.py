"""Decoupled guidance (Decoupled DMD, arXiv 2511.22677): what guidance adds gets a noise level of its own.

Shapes: B batch, N latent tokens, D latent channels. A guided teacher says v_c + (v_guided - v_c), so the gradient of
distribution matching, t (v_guided - v_fake), is a sum: t (v_c - v_fake) matches the student to the unguided teacher,
and is silent once they agree; t (v_guided - v_c) goes on pushing towards the prompt. Both are evaluated at one t there.
Here the first looks at all levels as before, and the second only at those that the student's step k still has before
it: t ~ U(0, t_k), as what is coarser has been decided.

With scale 1 nothing is added. Averaged over the same t, the two together are the undivided gradient.
"""

from torch import Tensor

from fewstep.objective.dmd import normaliser, surrogate_loss


def guidance_times(u_B: Tensor, t_k: float) -> Tensor:
    """t_B uniform on (0, t_k] for u_B uniform on [0, 1)."""
    return (1 - u_B) * t_k


def guidance_gradient(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_cond_BND: Tensor, added_BND: Tensor, floor: float
) -> Tensor:
    """t (v_guided - v_c) / max(mean|x0 - x0_c|, floor), fp32: scaled as matching the unguided teacher is."""
    return (t_B / normaliser(x0_BND, z_BND, t_B, v_cond_BND, floor))[:, None, None] * added_BND.float()


def guidance_loss(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_cond_BND: Tensor, added_BND: Tensor, floor: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """0.5 mse(x0, stopgrad(x0 - g)) along that gradient.

    Args:
        x0_BND: the student's clean estimate, with gradient.
        z_BND: x0 noised afresh to t_B; where the teachers were evaluated.
        v_cond_BND, added_BND: the teachers' v_c, and v_guided - v_c.
    """
    g_BND = guidance_gradient(x0_BND.detach(), z_BND, t_B, v_cond_BND, added_BND, floor)
    loss, finite_B = surrogate_loss(x0_BND, g_BND)
    return loss, {"gradient": g_BND.where(finite_B[:, None, None], 0.0).square().mean().sqrt()}
