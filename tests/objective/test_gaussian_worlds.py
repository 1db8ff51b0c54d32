"""The closed forms of a Gaussian world, held to numbers that do not use them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.backbones.conditioning import stack
from fewstep.backbones.testing.toy import (
    GaussianNetwork,
    GaussianWorld,
    ToyBackbone,
    euler_law,
    geometric_mixture,
    interpolation_weights,
)
from fewstep.flow import path
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import trajectory

F64 = torch.float64
times = st.floats(0.02, 1.0)


def world(*mean: float, var: tuple[float, ...] = (0.3, 2.0, 0.05)) -> GaussianWorld:
    return GaussianWorld(torch.tensor([mean or (1.0, -0.5, 0.2)], dtype=F64), torch.tensor([var], dtype=F64))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9, 1.0])
def test_velocity_is_the_conditional_mean(t: float) -> None:
    """Least squares of eps - x0 on z_t, which for jointly normal values is the conditional mean."""
    w, n = world(), 400_000
    x0, eps = w.sample(normal(n, 1, 3)), normal(n, 1, 3, seed=1)
    z, v = path.noised(x0, eps, torch.full((n,), t, dtype=F64)), path.velocity(x0, eps)
    centred = z - z.mean(0)
    slope = (centred * v).mean(0) / centred.square().mean(0)
    for at in (-1.0, 0.0, 2.0):
        point = torch.full((1, 1, 3), at, dtype=F64)
        want = v.mean(0) + slope * (point - z.mean(0))
        close(w.velocity(point, torch.tensor([t], dtype=F64)), want, 0.03)


@given(times, st.integers(0, 1000))
@settings(max_examples=25)
def test_score_is_the_gradient_of_the_log_density(t: float, seed: int) -> None:
    w, t_B = world(), torch.tensor([t], dtype=F64)
    z = normal(1, 1, 3, seed=seed).requires_grad_(True)
    mean, var = w.at(t_B)
    torch.distributions.Normal(mean, var.sqrt()).log_prob(z).sum().backward()
    close(w.score(z.detach(), t_B), z.grad)  # type: ignore[arg-type]


@given(times, st.integers(0, 1000))
@settings(max_examples=25)
def test_score_and_velocity_say_the_same(t: float, seed: int) -> None:
    """Through the identity that the whole objective rests on."""
    w, t_B, z = world(), torch.full((4,), t, dtype=F64), normal(4, 2, 3, seed=seed)
    close(path.score(z, w.velocity(z, t_B), t_B), w.score(z, t_B), 1e-8)


def test_the_velocity_carries_the_law_along() -> None:
    """d/dt of mean and variance of z_t are those that the flow of v gives: d mean = E v, d var = 2 Cov(z, v)."""
    w = world()
    for t in (0.1, 0.5, 0.9):
        low, mid, high = (torch.tensor([x], dtype=F64) for x in (t - 1e-5, t, t + 1e-5))
        mean, var = w.at(mid)
        slope = w.velocity(mean + 1, mid) - w.velocity(mean, mid)
        close((w.at(high)[0] - w.at(low)[0]) / 2e-5, w.velocity(mean, mid), 1e-6)
        close((w.at(high)[1] - w.at(low)[1]) / 2e-5, 2 * slope * var, 1e-6)


def test_many_euler_steps_reach_the_world() -> None:
    w = world()
    last = euler_law(w, SigmaGrid.static(2000))[-1]
    close(last.mean_ND, w.mean_ND, 1e-9)
    close(last.var_ND, w.var_ND, 5e-3)


def test_the_mean_needs_no_steps_and_the_spread_does() -> None:
    one = euler_law(world(), SigmaGrid.static(1))[-1]
    close(one.mean_ND, world().mean_ND)
    close(one.var_ND, torch.zeros_like(one.var_ND))


def test_euler_law_is_the_law_of_the_solver() -> None:
    w, grid = world(), SigmaGrid.static(4, 3.0)
    laws, states = euler_law(w, grid), trajectory(w.velocity, normal(200_000, 1, 3), grid)
    assert len(laws) == len(states) == 5
    for law, state in zip(laws, states, strict=True):
        close(state.mean(0), law.mean_ND, 0.01)
        close(state.var(0), law.var_ND, 0.02)


def test_geometric_mixture_is_the_normalised_product() -> None:
    a, b = world(1.0, -0.5, 0.2), world(-1.0, 0.5, 2.0, var=(1.0, 0.4, 0.3))
    mixed = geometric_mixture([a, b], [0.3, 0.7])
    x = torch.linspace(-12, 12, 48001, dtype=F64)
    for i in range(3):
        log_p, log_q = (torch.distributions.Normal(w.mean_ND[0, i], w.var_ND[0, i].sqrt()).log_prob(x) for w in (a, b))
        density = (0.3 * log_p + 0.7 * log_q).exp()
        density /= density.sum()
        mean = (x * density).sum()
        close(mixed.mean_ND[0, i], mean, 1e-6)
        close(mixed.var_ND[0, i], ((x - mean) ** 2 * density).sum(), 1e-6)


@given(times, st.floats(0, 1))
@settings(max_examples=25)
def test_mixed_velocities_are_the_velocity_of_the_mixture(t: float, share: float) -> None:
    """With equal variances, at every t."""
    a, b = world(1.0, 0.0, 0.2), world(-1.0, 3.0, 0.5)
    t_B, z = torch.full((2,), t, dtype=F64), normal(2, 1, 3)
    mixed = share * a.velocity(z, t_B) + (1 - share) * b.velocity(z, t_B)
    close(mixed, geometric_mixture([a, b], [share, 1 - share]).velocity(z, t_B), 1e-8)


def test_with_unequal_variances_they_mix_the_noised_worlds() -> None:
    a, b, t_B, z = world(), world(0.0, 1.0, 2.0, var=(2.0, 0.1, 1.0)), torch.tensor([0.6], dtype=F64), normal(1, 1, 3)
    mixed = 0.25 * a.velocity(z, t_B) + 0.75 * b.velocity(z, t_B)
    noised = geometric_mixture([GaussianWorld(*w.at(t_B)) for w in (a, b)], [0.25, 0.75])
    close(path.score(z, mixed, t_B), -(z - noised.mean_ND) / noised.var_ND)
    assert (mixed - geometric_mixture([a, b], [0.25, 0.75]).velocity(z, t_B)).abs().max() > 1e-2


# ---- networks


@given(times, st.integers(0, 100))
@settings(max_examples=25)
def test_a_network_starts_as_its_world(t: float, seed: int) -> None:
    w, t_B, z = world(), torch.full((3,), t, dtype=F64), normal(3, 4, 3, seed=seed)
    network = GaussianNetwork(w)
    close(network(z, t_B), w.velocity(z, t_B))
    shift = normal(3, 1, 3, seed=seed + 1)
    close(network(z, t_B, shift), w.moved(shift).velocity(z, t_B))
    assert network(z.float(), t_B.float()).dtype == torch.float32


def test_knots_interpolate() -> None:
    knots = torch.tensor([0.25, 0.5, 1.0])
    t = torch.tensor([0.1, 0.25, 0.375, 0.5, 0.9, 1.0])
    want = [[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.2, 0.8], [0, 0, 1]]
    torch.testing.assert_close(interpolation_weights(t, knots), torch.tensor(want))
    assert interpolation_weights(t, knots[:1]).tolist() == [[1.0]] * 6


def test_a_few_step_student_of_any_world_is_among_the_networks() -> None:
    """With the student's noise levels as knots: set the free slopes so that two steps end in the world exactly."""
    w, grid = world(), SigmaGrid.of([1.0, 0.5])
    network = GaussianNetwork(w, list(grid))
    law = euler_law(w, grid)[1]  # after the first step, still the teacher's
    with torch.no_grad():  # x0 = z - t v = m + (1 - t slope)(z - (1 - t) m): match its spread to the world's
        t = torch.tensor([0.5], dtype=F64)
        teacher = w.velocity(w.at(t)[0] + 1, t) - w.velocity(w.at(t)[0], t)
        wanted = (1 - (w.var_ND / law.var_ND).sqrt()) / 0.5
        network.slope_KND[0] = wanted - teacher[0]
    end = trajectory(network, normal(200_000, 1, 3), grid)[-1]
    close(end.mean(0), w.mean_ND, 0.01)
    close(end.var(0), w.var_ND, 0.02)


def test_every_parameter_matters() -> None:
    network = GaussianNetwork(world(), [0.25, 0.5, 1.0])
    network(normal(3, 2, 3), torch.tensor([0.3, 0.6, 0.9], dtype=F64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_toy_backbone_answers_for_the_world_it_names() -> None:
    backbone = ToyBackbone()
    cond = stack(backbone.encode(["a red boat", "two words"], None, (32, 32)))
    z, t = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 0.8])
    w = backbone.world_of(cond)
    torch.testing.assert_close(backbone.velocity(backbone.transformer, z, t, cond), w.velocity(z, t))
    assert w.mean_ND.shape == (2, 1, 3)
