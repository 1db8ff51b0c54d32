"""Distribution matching (DMD, arXiv 2311.18828, 2405.14867) for a velocity-predicting student.

Shapes: B batch, N latent tokens, D latent channels. The KL from student to teacher falls fastest along
x0_fake - x0_real = (z - t v_fake) - (z - t v_real) = t (v_real - v_fake): the student steps AGAINST this gradient, away
from what the critic finds likely and towards what the teacher does. The difference is formed from velocities in fp32;
formed from two bf16 clean estimates it is mostly rounding error wherever teacher and critic nearly agree.
"""

from torch import Tensor

from fewstep.flow import path


def normaliser(x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, floor: float) -> Tensor:
    """max(mean|x0 - x0_real|, floor), each sample's own, fp32: (B,).

    Dividing by it makes all times weigh alike. A whole batch's mean would let one sample's size steer its batch mates.
    """
    x0_real = path.clean(z_BND.float(), v_real_BND.float(), t_B)
    return (x0_BND.float() - x0_real).abs().mean(dim=(1, 2)).clamp_min(floor)


def dmd_gradient(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, v_fake_BND: Tensor, floor: float
) -> Tensor:
    """g = t (v_real - v_fake) / max(mean|x0 - x0_real|, floor), fp32."""
    scale_B = t_B / normaliser(x0_BND, z_BND, t_B, v_real_BND, floor)
    return scale_B[:, None, None] * (v_real_BND.float() - v_fake_BND.float())


def surrogate_loss(x0_BND: Tensor, g_BND: Tensor) -> tuple[Tensor, Tensor]:
    """0.5 mse(x0, stopgrad(x0 - g)), whose derivative in x0 is g / (number of elements); and which samples count.

    A sample whose g is not finite is left out of the mean; with no sample left the loss is nan.
    """
    x0 = x0_BND.float()
    finite_B = g_BND.isfinite().flatten(1).all(dim=1)
    target_BND = x0.detach() - g_BND.where(finite_B[:, None, None], 0.0)
    counted = finite_B.sum() * x0[0].numel()
    return 0.5 * (x0 - target_BND).square().sum() / counted, finite_B


def dmd_loss(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, v_fake_BND: Tensor, floor: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss along the gradient of distribution matching, and what is worth seeing.

    Args:
        x0_BND: the student's clean estimate, with gradient.
        z_BND: x0 noised afresh to t_B, without gradient; where both velocities were evaluated.
        floor: least value of the per-sample normaliser.
    """
    g_BND = dmd_gradient(x0_BND.detach(), z_BND, t_B, v_real_BND, v_fake_BND, floor)
    loss, finite_B = surrogate_loss(x0_BND, g_BND)
    return loss, {
        "gradient": g_BND.where(finite_B[:, None, None], 0.0).square().mean().sqrt(),
        **velocity_agreement(v_real_BND.float(), v_fake_BND.float()),
        "left_out": (~finite_B).sum(),
    }


def velocity_agreement(v_real_BND: Tensor, v_fake_BND: Tensor) -> dict[str, Tensor]:
    """cos(v_fake, v_real) and rms(v_fake - v_real) / rms(v_real), each the mean over samples.

    The sign of a healthy run is a cosine about .98 and a small, steady gap; the critic's loss alone says nothing.
    """
    real, fake = v_real_BND.flatten(1), v_fake_BND.flatten(1)
    size_B = real.norm(dim=1).clamp_min(1e-12)
    cosine_B = (real * fake).sum(dim=1) / (size_B * fake.norm(dim=1).clamp_min(1e-12))
    return {"cosine": cosine_B.mean(), "gap": ((fake - real).norm(dim=1) / size_B).mean()}
