"""Distribution matching on Gaussian worlds, where every score has a closed form."""

import pytest
import torch
from torch import Tensor

from fewstep.backbones.testing.toy import GaussianWorld
from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.objective.dmd import dmd_gradient, dmd_loss

FLOOR = 0.05
B, N, D = 5, 6, 3
RNG = NamedRNG(3)
TIMES = torch.tensor([0.02, 0.1, 0.5, 0.9, 0.98])


def world(mean: float = 0.2, var: float = 0.4) -> GaussianWorld:
    return GaussianWorld(torch.full((N, D), mean), torch.full((N, D), var))


def noised(x0: Tensor) -> Tensor:
    return path.noised(x0, RNG.normal((B, N, D), "eps"), TIMES)


def normaliser(x0: Tensor, z: Tensor, v_real: Tensor) -> Tensor:
    return (x0 - path.clean(z, v_real, TIMES)).abs().mean((1, 2), keepdim=True).clamp_min(FLOOR)


def test_gradient_is_the_difference_of_scores() -> None:
    """t (v_real - v_fake) = t^2 / (1 - t) (s_fake - s_real): the KL's own gradient, scaled by time."""
    teacher, critic = world(), world(0.5, 0.1)
    x0 = critic.sample(RNG.normal((B, N, D), "x0"))
    z = noised(x0)
    v_real, v_fake = teacher.velocity(z, TIMES), critic.velocity(z, TIMES)
    scores = critic.score(z.double(), TIMES.double()) - teacher.score(z.double(), TIMES.double())
    t = TIMES.double()[:, None, None]
    expected = t**2 / (1 - t) * scores / normaliser(x0, z, v_real)
    torch.testing.assert_close(
        dmd_gradient(x0, z, TIMES, v_real, v_fake, FLOOR).double(), expected, rtol=1e-3, atol=1e-5
    )


def test_gradient_is_the_difference_of_clean_estimates() -> None:
    teacher, critic = world(), world(0.5, 0.1)
    x0 = critic.sample(RNG.normal((B, N, D), "x0"))
    z = noised(x0)
    v_real, v_fake = teacher.velocity(z, TIMES), critic.velocity(z, TIMES)
    expected = (path.clean(z, v_fake, TIMES) - path.clean(z, v_real, TIMES)) / normaliser(x0, z, v_real)
    torch.testing.assert_close(dmd_gradient(x0, z, TIMES, v_real, v_fake, FLOOR), expected, rtol=1e-4, atol=1e-5)


def test_loss_has_this_gradient_over_the_number_of_elements() -> None:
    x0 = RNG.normal((B, N, D), "x0").requires_grad_()
    z = noised(x0.detach())
    v_real, v_fake = world().velocity(z, TIMES), world(0.6).velocity(z, TIMES)
    g = dmd_gradient(x0.detach(), z, TIMES, v_real, v_fake, FLOOR)
    loss, metrics = dmd_loss(x0, z, TIMES, v_real, v_fake, FLOOR)
    (slope,) = torch.autograd.grad(loss, x0)
    torch.testing.assert_close(slope, g / x0.numel(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(loss, 0.5 * g.square().mean())
    torch.testing.assert_close(metrics["gradient"], g.square().mean().sqrt())


def test_silent_once_student_teacher_and_critic_agree() -> None:
    x0 = world().sample(RNG.normal((B, N, D), "x0")).requires_grad_()
    z = noised(x0.detach())
    v = world().velocity(z, TIMES)
    loss, metrics = dmd_loss(x0, z, TIMES, v, v.clone(), FLOOR)
    (slope,) = torch.autograd.grad(loss, x0)
    assert loss == 0
    assert not slope.any()
    assert metrics["cosine"] == pytest.approx(1, abs=1e-5)
    assert metrics["gap"] == 0


@pytest.mark.parametrize("offset", [-1.0, 0.4])
def test_a_displaced_student_moves_towards_the_teacher(offset: float) -> None:
    """A wrong sign looks like blur, not like divergence: the loss would still fall."""
    teacher, student = world(), world().moved(torch.tensor(offset))
    x0 = student.sample(RNG.normal((B, N, D), "x0")).requires_grad_()
    z = noised(x0.detach())
    loss, _ = dmd_loss(x0, z, TIMES, teacher.velocity(z, TIMES), student.velocity(z, TIMES), FLOOR)
    (slope,) = torch.autograd.grad(loss, x0)
    before = (x0.mean((1, 2)) - 0.2).abs()
    after = ((x0 - 0.1 * slope * x0.numel()).mean((1, 2)) - 0.2).abs()
    step = slope.mean((1, 2))
    assert (step.sign() == torch.sign(torch.tensor(offset))).all()
    assert after.mean() < before.mean()


def test_a_narrow_student_spreads() -> None:
    teacher, student = (GaussianWorld(torch.full((1, 1), 0.2), torch.full((1, 1), var)) for var in (0.4, 0.1))
    x0 = student.sample(RNG.normal((B, 4000, 1), "x0"))
    z = path.noised(x0, RNG.normal((B, 4000, 1), "eps"), TIMES)
    g = dmd_gradient(x0, z, TIMES, teacher.velocity(z, TIMES), student.velocity(z, TIMES), FLOOR)
    away = x0 - 0.2
    assert ((x0 - 0.1 * g - 0.2).square().mean((1, 2)) > away.square().mean((1, 2))).all()


def test_a_sample_is_normalised_by_itself() -> None:
    """Whatever its batch mates are, a sample's gradient is the same to the last bit."""
    x0 = RNG.normal((B, N, D), "x0")
    z = noised(x0)
    v_real, v_fake = world().velocity(z, TIMES), world(0.6).velocity(z, TIMES)
    alone = dmd_gradient(x0, z, TIMES, v_real, v_fake, FLOOR)[0]
    x0[1:] *= 100
    v_real[1:] += 30
    torch.testing.assert_close(dmd_gradient(x0, z, TIMES, v_real, v_fake, FLOOR)[0], alone, rtol=0, atol=0)


def test_the_floor_holds_where_teacher_and_student_nearly_agree() -> None:
    x0 = torch.zeros(1, N, D)
    t = torch.tensor([0.02])
    v_real, v_fake = torch.zeros(1, N, D), torch.ones(1, N, D)
    g = dmd_gradient(x0, x0, t, v_real, v_fake, FLOOR)
    torch.testing.assert_close(g, torch.full_like(g, -0.02 / FLOOR))


def test_fp32_velocities_keep_what_bf16_clean_estimates_lose() -> None:
    """At t = 0.1, with a critic off by 30 % of the teacher's own error (rms 0.07 here), forming the difference from two
    bf16 clean estimates costs about a quarter of it; from velocities in fp32, nothing to speak of."""
    shape, t = (1, 4096, 4), torch.tensor([0.1])
    x0, eps = RNG.normal(shape, "x0"), RNG.normal(shape, "eps")
    z = path.noised(x0, eps, t)
    v_real = path.velocity(x0, eps) + 0.07 * RNG.normal(shape, "error")
    v_fake = v_real + 0.3 * 0.07 * RNG.normal(shape, "gap")
    exact = t.double() * (v_real.double() - v_fake.double())

    def error(formed: Tensor) -> float:
        return float((formed.double() - exact).norm() / exact.norm())

    rounded = path.clean(z, v_fake, t).bfloat16() - path.clean(z, v_real, t).bfloat16()
    ours = dmd_gradient(x0, z, t, v_real, v_fake, floor=1.0)  # mean|x0 - x0_real| lies below: nothing is divided
    assert error(rounded.float()) > 0.2
    assert error(ours) < 1e-6


def test_bf16_velocities_are_taken_up_to_fp32() -> None:
    x0 = RNG.normal((B, N, D), "x0").bfloat16()
    g = dmd_gradient(x0, x0, TIMES, x0, 2 * x0, FLOOR)
    assert g.dtype == torch.float32


def test_a_sample_that_is_not_finite_is_left_out() -> None:
    x0 = RNG.normal((B, N, D), "x0").requires_grad_()
    z = noised(x0.detach())
    v_real, v_fake = world().velocity(z, TIMES), world(0.6).velocity(z, TIMES)
    clean_loss, _ = dmd_loss(x0[1:], z[1:], TIMES[1:], v_real[1:], v_fake[1:], FLOOR)
    v_real[0, 2, 1] = torch.nan
    loss, metrics = dmd_loss(x0, z, TIMES, v_real, v_fake, FLOOR)
    (slope,) = torch.autograd.grad(loss, x0)
    assert metrics["left_out"] == 1
    torch.testing.assert_close(loss, clean_loss)
    assert not slope[0].any()
    assert slope[1:].isfinite().all()


def test_with_no_finite_sample_the_loss_is_nan() -> None:
    """So that the update is skipped and counted, not made with a gradient of zeros."""
    x0 = RNG.normal((B, N, D), "x0").requires_grad_()
    loss, metrics = dmd_loss(x0, x0.detach(), TIMES, torch.full_like(x0, torch.inf), torch.zeros_like(x0), FLOOR)
    assert metrics["left_out"] == B
    assert loss.isnan()
