"""v_u + s (v_c - v_u), and what it is at the scales with a name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.guided_velocity import guided
from fewstep.runtime.errors import RecipeError


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    v_c, v_u = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    return v_c, v_u


def test_scale_one_is_the_conditional_and_zero_the_unconditional() -> None:
    v_c, v_u = pair()
    torch.testing.assert_close(guided(v_c, v_u, Guidance(1.0)), v_c)
    torch.testing.assert_close(guided(v_c, v_u, Guidance(0.0)), v_u)


@given(st.integers(0, 2**31), st.floats(0, 12))
@settings(max_examples=30)
def test_guidance_extrapolates_the_line(seed: int, scale: float) -> None:
    v_c, v_u = pair(seed)
    torch.testing.assert_close(guided(v_c, v_u, Guidance(scale)), (1 - scale) * v_u + scale * v_c)
    torch.testing.assert_close(guided(v_c, v_c, Guidance(scale)), v_c, msg="agreeing branches leave nothing to guide")


@given(st.integers(0, 2**31), st.floats(0, 12))
@settings(max_examples=30)
def test_kept_norm_keeps_the_length_of_each_token_and_the_direction(seed: int, scale: float) -> None:
    v_c, v_u = pair(seed)
    plain, kept = (guided(v_c, v_u, Guidance(scale, keep_norm=keep)) for keep in (False, True))
    torch.testing.assert_close(kept.norm(dim=-1), v_c.norm(dim=-1))
    cosine = torch.nn.functional.cosine_similarity(plain, kept, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_kept_norm_of_nothing_is_finite() -> None:
    v_c, _ = pair()
    assert torch.isfinite(guided(v_c, v_c * 2, Guidance(2.0, keep_norm=True))).all()


def test_guidance_is_not_linear_in_the_teachers() -> None:
    """So it is applied per teacher, before teachers are mixed."""
    (a_c, a_u), (b_c, b_u) = pair(1), pair(2)
    keep = Guidance(4.0, keep_norm=True)
    mixed_after = (guided(a_c, a_u, keep) + guided(b_c, b_u, keep)) / 2
    mixed_before = guided((a_c + b_c) / 2, (a_u + b_u) / 2, keep)
    assert (mixed_after - mixed_before).abs().max() > 0.1


def test_only_a_scale_other_than_one_costs_a_second_evaluation() -> None:
    assert not NO_GUIDANCE.active
    assert not Guidance(1.0, keep_norm=True, negative="blurry").active
    assert Guidance(0.0).active
    assert Guidance(4.0).active


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_refused(scale: float) -> None:
    with pytest.raises(RecipeError, match="at least 0 and finite"):
        Guidance(scale)
