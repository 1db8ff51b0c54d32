"""A LoRA cut down to a lower rank is its truncated SVD."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.lora.truncation import truncate
from fewstep.runtime.errors import AdapterError
from tests.lora.random_factors import random_factors


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_cutting_down_is_the_truncated_svd(rank: int, seed: int) -> None:
    update = random_factors(9, 6, 4.0, seed)
    cut = truncate({"x": update}, rank)
    whole = update.delta().double()
    s = torch.linalg.svdvals(whole)
    left_out = (whole - cut.updates["x"].delta().double()).norm()
    assert float(left_out) == pytest.approx(float(s[rank:].norm()), rel=1e-3, abs=1e-5)
    assert cut.relative == pytest.approx(float(s[rank:].norm() / s.norm()), rel=1e-3, abs=1e-6)
    assert cut.updates["x"].rank == rank


def test_cutting_down_leaves_lower_ranks_alone_and_names_the_worst() -> None:
    low, high = random_factors(5, 2, 3.0, 1), random_factors(5, 4, 1.0, 2)
    cut = truncate({"low": low, "high": high}, 3)
    assert cut.updates["low"] is low
    assert cut.worst_module == "high"
    assert 0 < cut.relative < cut.worst


def test_a_layer_narrower_than_the_rank_is_cut_to_its_width() -> None:
    """Such as klein's x_embedder: more rows in the factors than the layer has inputs."""
    update = random_factors(9, 20, 4.0, 3)  # 6 inputs
    cut = truncate({"x": update}, 8).updates["x"]
    assert (cut.rank, cut.alpha) == (6, 6.0)
    torch.testing.assert_close(cut.delta(), update.delta(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 4, 9])
def test_a_rank_that_shrinks_nothing(rank: int) -> None:
    with pytest.raises(AdapterError, match="shrinks nothing"):
        truncate({"x": random_factors(5, 4, 1.0, 1)}, rank)
