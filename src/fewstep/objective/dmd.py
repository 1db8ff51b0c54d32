"""Distribution matching (DMD, arXiv 2311.18828, 2405.14867) for a velocity-predicting student.

Shapes: B batch, N latent tokens, D latent channels. The objective is KL(student || teacher) (DMD eq. 1). Its gradient
in the student's sample is the difference of two scores (eq. 2). In clean estimates that difference is

    x0_fake - x0_real = (z - t v_fake) - (z - t v_real) = t (v_real - v_fake)

The student steps AGAINST this gradient: away from what the critic finds likely, towards what the teacher finds likely.
With the wrong sign a run does not diverge; its pictures become blurred.

The difference is formed from velocities in fp32. Formed from two bf16 clean estimates it is mostly rounding error
wherever teacher and critic nearly agree.
"""

from torch import Tensor

from fewstep.flow import path


def normaliser(x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, floor: float) -> Tensor:
    """What the gradient of each sample is divided by, fp32, shape (B,).

    It makes all times weigh about the same. It is a mean over one sample, not over the batch: otherwise the size of one
    sample would scale the gradients of the others. At low t with a reference image it would vanish; hence the floor.
    """
    # max(mean |x0 - x0_real|, floor)    [DMD, arXiv 2311.18828, eq. 8; the floor as in NVIDIA Model-Optimizer]
    x0_real = path.clean(z_BND.float(), v_real_BND.float(), t_B)
    return (x0_BND.float() - x0_real).abs().mean(dim=(1, 2)).clamp_min(floor)


def dmd_gradient(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, v_fake_BND: Tensor, floor: float
) -> Tensor:
    """The gradient of distribution matching in x0_BND, fp32, shape BND. Nothing here carries a gradient of its own."""
    # g = t (v_real - v_fake) / max(mean |x0 - x0_real|, floor)    [DMD, arXiv 2311.18828, eq. 7 and 8, in velocities]
    scale_B = t_B / normaliser(x0_BND, z_BND, t_B, v_real_BND, floor)
    return scale_B[:, None, None] * (v_real_BND.float() - v_fake_BND.float())


def surrogate_loss(x0_BND: Tensor, g_BND: Tensor) -> tuple[Tensor, Tensor]:
    """A loss whose derivative in x0_BND is g_BND / (number of elements), and which samples count, finite_B.

    A sample whose g is not finite is left out of the mean. If no sample is left, the loss is NaN and the optimizer
    skips the update.
    """
    # L = 0.5 mean |x0 - stopgrad(x0 - g)|^2, hence dL/dx0 = g / N and dL/dtheta = (dx0/dtheta)^T g / N    [DMD eq. 7]
    x0 = x0_BND.float()
    finite_B = g_BND.isfinite().flatten(1).all(dim=1)
    target_BND = x0.detach() - g_BND.where(finite_B[:, None, None], 0.0)
    counted = finite_B.sum() * x0[0].numel()
    return 0.5 * (x0 - target_BND).square().sum() / counted, finite_B


def dmd_loss(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, v_fake_BND: Tensor, floor: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of distribution matching, and figures to record.

    Args:
        x0_BND: the student's clean estimate, with gradient.
        z_BND: x0 with fresh noise at t_B, without gradient; both velocities were evaluated there.
        v_real_BND, v_fake_BND: the velocities of the teachers and of the critic.
        floor: smallest value of the per-sample normaliser.

    Returns:
        A scalar, and by name: the gradient's root mean square, cosine and gap (`velocity_agreement`), and the number of
        samples left out because their gradient was not finite.
    """
    g_BND = dmd_gradient(x0_BND.detach(), z_BND, t_B, v_real_BND, v_fake_BND, floor)
    loss, finite_B = surrogate_loss(x0_BND, g_BND)
    return loss, {
        "gradient": g_BND.where(finite_B[:, None, None], 0.0).square().mean().sqrt(),
        **velocity_agreement(v_real_BND.float(), v_fake_BND.float()),
        "left_out": (~finite_B).sum(),
    }


def velocity_agreement(v_real_BND: Tensor, v_fake_BND: Tensor) -> dict[str, Tensor]:
    """cos(v_fake, v_real), and the gap rms(v_fake - v_real) / rms(v_real), each the mean over samples.

    In a healthy run the cosine is about 0.98, and the gap is small and steady. The critic's loss alone says nothing.
    """
    real, fake = v_real_BND.flatten(1), v_fake_BND.flatten(1)
    size_B = real.norm(dim=1).clamp_min(1e-12)
    cosine_B = (real * fake).sum(dim=1) / (size_B * fake.norm(dim=1).clamp_min(1e-12))
    return {"cosine": cosine_B.mean(), "gap": ((fake - real).norm(dim=1) / size_B).mean()}
