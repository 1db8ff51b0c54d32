"""Decoupled guidance (Decoupled DMD, arXiv 2511.22677): what guidance adds gets a noise level of its own.

Shapes: B batch, N latent tokens, D latent channels; t_k is the noise level of student step k.
A guided teacher predicts v_guided = v_c + (v_guided - v_c). So the gradient of distribution matching is a sum:

    t (v_guided - v_fake) = t (v_c - v_fake) + t (v_guided - v_c)

The first term matches the student to the unguided teacher, and vanishes once they agree. The second goes on pushing
towards the prompt. Plain distribution matching evaluates both at the same t. Here the first is evaluated at all levels
as before, and the second only at levels below the student's: t ~ U(low, t_k). What coarser levels decide is already
decided when step k begins. The paper bounds only this side (sec. 4.3, tau_CA > t; its time runs towards the picture),
and its runs with the cleanest levels alone collapse (sec. 4.1). Below `low` no teacher is asked anywhere else either:
it is the same lower bound as that of p(t).

With guidance scale 1 the second term is 0. If both were drawn from the same p(t), their sum would be the plain gradient
again.
"""

from torch import Tensor

from fewstep.objective.dmd import normaliser, surrogate_loss


def guidance_times(u_B: Tensor, t_k: float, low: float) -> Tensor:
    """t_B uniform on (low, t_k] for u_B uniform on [0, 1). At a step whose t_k is not above `low` it is t_k.

    low: above 0, the objective's `time_low`.
    """
    # t ~ U(low, t_k)    [Decoupled DMD, arXiv 2511.22677, sec. 4.3; low: DMD's 0.02 T, arXiv 2311.18828]
    return t_k - u_B * max(t_k - low, 0.0)


def guidance_gradient(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_cond_BND: Tensor, added_BND: Tensor, floor: float
) -> Tensor:
    """The gradient of the guidance term in x0_BND, fp32. It is scaled as the matching of the unguided teacher is.

    added_BND: v_guided - v_c. x0_c below is the clean estimate that v_c implies.
    """
    # g = t (v_guided - v_c) / max(mean |x0 - x0_c|, floor)    [Decoupled DMD; weight as DMD eq. 8]
    return (t_B / normaliser(x0_BND, z_BND, t_B, v_cond_BND, floor))[:, None, None] * added_BND.float()


def guidance_loss(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_cond_BND: Tensor, added_BND: Tensor, floor: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss whose derivative in x0 is that gradient (`surrogate_loss`), and the gradient's root mean square.

    Args:
        x0_BND: the student's clean estimate, with gradient.
        z_BND: x0 with fresh noise at t_B; the teachers were evaluated there.
        v_cond_BND, added_BND: the teachers' v_c, and v_guided - v_c.
        floor: smallest value of the normaliser.
    """
    g_BND = guidance_gradient(x0_BND.detach(), z_BND, t_B, v_cond_BND, added_BND, floor)
    loss, finite_B = surrogate_loss(x0_BND, g_BND)
    return loss, {"gradient": g_BND.where(finite_B[:, None, None], 0.0).square().mean().sqrt()}
