"""Conversions along the straight path invert each other, in float64."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.flow import path
from fewstep.flow.sigmas import SigmaGrid
from fewstep.flow.solver import trajectory

times = st.floats(0.01, 1.0)
seeds = st.integers(0, 2**31)


def drawn(seed: int, *counts: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(counts[0] if counts else 2)]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@given(seeds, st.lists(times, min_size=3, max_size=3))
@settings(max_examples=30)
def test_what_goes_in_comes_out(seed: int, ts: list[float]) -> None:
    x0, eps = drawn(seed)
    t = torch.tensor(ts, dtype=torch.float64)
    z, v = path.noised(x0, eps, t), path.velocity(x0, eps)
    close(path.clean(z, v, t), x0)
    close(path.noise(z, v, t), eps)
    close(path.score(z, v, t) * t[:, None, None], -eps)


@given(seeds, times)
@settings(max_examples=30)
def test_any_velocity_splits_z_into_its_clean_and_noisy_part(seed: int, t: float) -> None:
    """(1 - t) x0 + t eps = z and eps - x0 = v, whatever v is."""
    z, v = drawn(seed)
    t_B = torch.full((3,), t, dtype=torch.float64)
    x0, eps = path.clean(z, v, t_B), path.noise(z, v, t_B)
    close(path.noised(x0, eps, t_B), z)
    close(path.velocity(x0, eps), v)


@given(seeds, times, st.floats(-1, 2))
@settings(max_examples=30)
def test_mixing_velocities_mixes_scores(seed: int, t: float, share: float) -> None:
    """Only because the weights sum to one: score is affine in v, not linear."""
    z, v, w = drawn(seed, 3)
    t_B = torch.full((3,), t, dtype=torch.float64)
    mixed = path.score(z, share * v + (1 - share) * w, t_B)
    close(mixed, share * path.score(z, v, t_B) + (1 - share) * path.score(z, w, t_B))


def test_each_sample_has_its_own_time() -> None:
    x0, eps = drawn(0)
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    z = path.noised(x0, eps, t)
    close(z[0], x0[0])
    close(z[1], (x0[1] + eps[1]) / 2)
    close(z[2], eps[2])


def test_euler_steps_along_the_true_line_are_exact() -> None:
    """With the velocity of one pair, any grid leads from eps to x0."""
    x0, eps = drawn(1)
    states = trajectory(lambda z, t: eps - x0, eps, SigmaGrid.of([1.0, 0.83, 0.3]))
    assert len(states) == 4
    close(states[-1], x0)
    for state, sigma in zip(states, [1.0, 0.83, 0.3, 0.0], strict=True):
        close(state, path.noised(x0, eps, torch.full((3,), sigma, dtype=torch.float64)))


def test_the_last_step_is_the_clean_estimate() -> None:
    z, v = drawn(2)
    close(path.euler_step(z, v, 0.4, 0.0), path.clean(z, v, torch.full((3,), 0.4, dtype=torch.float64)))


def test_the_solver_asks_at_the_noise_levels_of_the_grid() -> None:
    asked = []

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        asked.append(t)
        return torch.zeros_like(z)

    grid = SigmaGrid.static(4, 3.0)
    trajectory(velocity, torch.zeros(2, 1, 1), grid)
    assert [t.tolist() for t in asked] == [[float(torch.tensor(s))] * 2 for s in grid]
