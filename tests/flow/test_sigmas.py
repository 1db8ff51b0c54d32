"""SigmaGrid is what the stock scheduler makes of the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.backbones.stock import FlowMatchEulerDiscreteScheduler
from fewstep.flow.sigmas import (
    SigmaGrid,
    dynamic_shift,
    shifted,
)
from fewstep.runtime.errors import RecipeError

QWEN_21 = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
}
LIGHTNING = (1.0, 0.9, 0.75, 0.5)


def stock_sigmas(config: dict[str, Any], steps: int, tokens: int) -> torch.Tensor:
    """As QwenImage21Pipeline asks for them."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    c = scheduler.config
    slope = (c.max_shift - c.base_shift) / (c.max_image_seq_len - c.base_image_seq_len)
    mu = c.base_shift + slope * (tokens - c.base_image_seq_len)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler.sigmas


@pytest.mark.parametrize(
    "config",
    [{}, {"shift": 3.0}, {"shift": 0.5}, QWEN_21, {"shift_terminal": 0.02}, QWEN_21 | {"shift_terminal": 0.02}],
    ids=["plain", "static", "below one", "dynamic", "terminal", "dynamic with terminal"],
)
@given(steps=st.integers(2, 60), tokens=st.integers(4, 16384))
@settings(max_examples=15)
def test_of_scheduler(config: dict[str, Any], steps: int, tokens: int) -> None:
    stock = FlowMatchEulerDiscreteScheduler(**config)
    grid = SigmaGrid.of_scheduler(stock.config, steps, tokens)
    want = stock_sigmas(config, steps, tokens)
    torch.testing.assert_close(torch.tensor([*grid, 0.0]), want, rtol=0, atol=2e-6)


@given(st.integers(1, 60), st.floats(0.1, 20))
@settings(max_examples=30)
def test_static(steps: int, shift: float) -> None:
    grid = SigmaGrid.static(steps, shift)
    torch.testing.assert_close(torch.tensor([*grid, 0.0]), stock_sigmas({"shift": shift}, steps, 16), rtol=0, atol=2e-6)
    assert grid[0] == 1.0


@given(st.floats(0.01, 100))
@settings(max_examples=200)
def test_the_first_sigma_is_one_to_the_last_bit(shift: float) -> None:
    """Rounded up it would lie outside (0, 1], rounded down it would leave some of the picture in the noise."""
    assert shifted(1.0, shift) == 1.0


def test_lightning_is_static_shift_three() -> None:
    assert SigmaGrid.static(4, 3.0).sigmas == pytest.approx(LIGHTNING, abs=1e-12)
    assert SigmaGrid.of_scheduler({"shift": 3.0}, 4, 4096).sigmas == pytest.approx(LIGHTNING, abs=1e-12)


def test_plain_four_steps_of_qwen_image_21_at_1024() -> None:
    """The shift there is e^mu = 2, mu = 0.5 + 0.4 (L - 256) / 7936 with L = 4096 tokens."""
    assert dynamic_shift(4096, QWEN_21) == pytest.approx(2.0, abs=1e-3)
    grid = SigmaGrid.of_scheduler(QWEN_21, 4, 4096)
    assert [round(s, 3) for s in grid] == [1.0, 0.857, 0.667, 0.4]


def test_an_explicit_list_is_taken_at_its_word() -> None:
    assert SigmaGrid.of([1, 0.5]).sigmas == (1.0, 0.5)
    assert SigmaGrid.of(LIGHTNING) == SigmaGrid(LIGHTNING)


def test_reading_a_grid() -> None:
    grid = SigmaGrid.of(LIGHTNING)
    assert len(grid) == 4
    assert list(grid) == list(LIGHTNING)
    assert [grid.after(k) for k in range(4)] == [0.9, 0.75, 0.5, 0.0]
    assert grid[0] > grid[3]


@given(st.floats(0.001, 1), st.floats(0.1, 10), st.floats(0.1, 10))
@settings(max_examples=50)
def test_shifts_compose_and_invert(sigma: float, a: float, b: float) -> None:
    assert shifted(shifted(sigma, a), b) == pytest.approx(shifted(sigma, a * b), rel=1e-9)
    assert shifted(shifted(sigma, a), 1 / a) == pytest.approx(sigma, rel=1e-9)
    assert shifted(sigma, 1.0) == pytest.approx(sigma, rel=1e-12)
    assert shifted(1.0, a) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    "sigmas",
    [[], [0.5, 1.0], [1.0, 1.0], [1.0, 0.0], [1.2, 0.5], [1.0, -0.1], [float("nan")], [1.0, float("inf")]],
    ids=str,
)
def test_refused_lists(sigmas: list[float]) -> None:
    with pytest.raises(RecipeError, match="sigma"):
        SigmaGrid.of(sigmas)


@pytest.mark.parametrize(("steps", "shift"), [(0, 1.0), (-4, 1.0), (4, 0.0), (4, -3.0), (4, float("nan"))])
def test_refused_numbers(steps: int, shift: float) -> None:
    with pytest.raises(RecipeError, match=r"at least one step|positive number"):
        SigmaGrid.static(steps, shift)


@pytest.mark.parametrize(
    "config",
    [
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"invert_sigmas": True},
        {"time_shift_type": "linear", "use_dynamic_shifting": True},
    ],
    ids=str,
)
def test_refused_schedulers(config: dict[str, Any]) -> None:
    """Never a grid that is not the scheduler's, in silence."""
    with pytest.raises(RecipeError, match="list"):
        SigmaGrid.of_scheduler(config, 4, 256)


def test_terminal_of_one_step_is_refused() -> None:
    with pytest.raises(RecipeError, match="one step"):
        SigmaGrid.of_scheduler({"shift_terminal": 0.02}, 1, 256)
