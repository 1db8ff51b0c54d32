"""The objective's pieces beside the DMD gradient: rollout, times, the critic's loss."""

import pytest
import torch
from torch import Tensor

from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.flow.sigmas import SigmaGrid
from fewstep.objective.critic import critic_loss
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import roll_out
from fewstep.objective.times import times

RNG = NamedRNG(1)
GRID = SigmaGrid.of([1.0, 0.9, 0.75, 0.5])


def curved(z_BND: Tensor, t_B: Tensor) -> Tensor:
    return torch.sin(3 * z_BND) + t_B[:, None, None]


def test_clean_estimates_are_those_of_the_forwards() -> None:
    """Recovered from neighbouring states, to the rounding of fp32: the first step multiplies it by 10."""
    rollout = roll_out(curved, RNG.normal((3, 4, 2), "eps"), GRID)
    assert len(rollout.states) == 5
    for k in range(4):
        z, t = rollout.states[k], rollout.time(k)
        torch.testing.assert_close(rollout.clean(k), path.clean(z, curved(z, t), t), rtol=0, atol=5e-6)
    assert rollout.clean(3) is rollout.states[4]


def test_each_sample_can_leave_at_its_own_step() -> None:
    rollout = roll_out(curved, RNG.normal((3, 4, 2), "eps"), GRID)
    x0 = rollout.clean_at(torch.tensor([2, 0, 3]))
    for b, k in enumerate([2, 0, 3]):
        torch.testing.assert_close(x0[b], rollout.clean(k)[b], rtol=0, atol=0)


def test_a_rollout_has_no_gradient_and_one_evaluation_a_step() -> None:
    weight, calls = torch.ones((), requires_grad=True), []

    def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
        calls.append(float(t_B[0]))
        return weight * z_BND

    rollout = roll_out(velocity, RNG.normal((1, 2, 2), "eps"), GRID)
    assert calls == pytest.approx(list(GRID))
    assert not any(state.requires_grad for state in rollout.states)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("distribution", ["uniform", "logit-normal"])
def test_times_stay_between_low_and_high(distribution: str) -> None:
    plan = ObjectivePlan(time_low=0.1, time_high=0.6, time_distribution=distribution)
    t = times(torch.linspace(0, 0.9999, 1000), plan)
    assert t.dtype == torch.float32
    assert t.min() == pytest.approx(0.1, abs=1e-4)
    assert t.max() == pytest.approx(0.6, abs=1e-3)
    assert (t.diff() > 0).all()


def test_uniform_times_are_uniform_and_shifted_ones_are_shifted() -> None:
    u = torch.linspace(0, 0.999, 50)
    plain = times(u, ObjectivePlan())
    torch.testing.assert_close(plain, 0.02 + 0.96 * u)
    torch.testing.assert_close(times(u, ObjectivePlan(time_shift=3.0)), 3 * plain / (1 + 2 * plain))


def test_logit_normal_times_have_normal_logits() -> None:
    t = times(
        torch.linspace(0.0005, 0.9995, 1000),
        ObjectivePlan(time_low=1e-6, time_high=1 - 1e-6, time_distribution="logit-normal"),
    )
    logits = torch.logit(t.double())
    assert logits.mean() == pytest.approx(0, abs=1e-2)
    assert logits.std() == pytest.approx(1, abs=2e-2)


def test_extreme_random_numbers_stay_inside() -> None:
    """The largest float32 below 1 must not become t = 1 or an infinite logit."""
    u = torch.tensor([0.0, 1 - 2**-24])
    for distribution in ("uniform", "logit-normal"):
        for shift in (0.3, 1.0, 5.0):
            t = times(u, ObjectivePlan(time_distribution=distribution, time_shift=shift))
            assert ((t > 0) & (t < 1)).all()


def test_the_critic_learns_the_velocity_of_the_samples_it_is_given() -> None:
    x0, eps = RNG.normal((2, 3, 4), "x0"), RNG.normal((2, 3, 4), "eps")
    t = torch.tensor([0.3, 0.8])
    asked_z = []

    def perfect(z_BND: Tensor, t_B: Tensor) -> Tensor:
        asked_z.append(z_BND)
        return eps - x0 + 0.5

    loss, metrics = critic_loss(perfect, x0, eps, t)
    assert loss == pytest.approx(0.25, rel=1e-5)
    torch.testing.assert_close(asked_z[0], path.noised(x0, eps, t))
    torch.testing.assert_close(metrics["target"], (eps - x0).square().mean())


def test_a_plan_refuses_empty_time_ranges() -> None:
    with pytest.raises(ValueError, match="time_low"):
        ObjectivePlan(time_low=0.5, time_high=0.5)
