"""Random numbers have a name and a counter, never a history."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.flow.rng import NamedRNG

names = st.sampled_from(["noise", "time", "exit", "critic noise"])
counters = st.lists(st.integers(0, 10**6), max_size=3).map(tuple)


@given(st.integers(0, 2**62), names, counters)
@settings(max_examples=50)
def test_the_same_name_and_counter_give_the_same_numbers(seed: int, name: str, count: tuple[int, ...]) -> None:
    first = NamedRNG(seed).normal((4, 3), name, *count)
    other = NamedRNG(seed)
    other.uniform((7,), "something in between")
    torch.randn(5)
    assert torch.equal(first, other.normal((4, 3), name, *count))


@given(st.lists(st.tuples(st.integers(0, 3), names, counters), min_size=2, max_size=6, unique=True))
@settings(max_examples=50)
def test_another_seed_name_or_counter_gives_other_numbers(keys: list[tuple[int, str, tuple[int, ...]]]) -> None:
    drawn = [tuple(NamedRNG(seed).normal((4,), name, *count).tolist()) for seed, name, count in keys]
    assert len(set(drawn)) == len(keys)


def test_counters_are_not_run_together() -> None:
    rng = NamedRNG(0)
    assert not torch.equal(rng.normal((4,), "n", 1, 23), rng.normal((4,), "n", 12, 3))
    assert not torch.equal(rng.normal((4,), "n", 1), rng.normal((4,), "n 1"))


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = NamedRNG(3).normal((4,), "n")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(NamedRNG(3).normal((4,), "n"), first)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6, unique=True), st.data())
@settings(max_examples=30)
def test_a_samples_noise_does_not_depend_on_its_batch(samples: list[int], data: st.DataObject) -> None:
    rng = NamedRNG(5)
    rows = dict(zip(samples, rng.normal_per_sample(samples, (3, 2), "noise", 7), strict=True))
    shuffled = data.draw(st.permutations(samples))
    for sample, row in zip(shuffled, rng.normal_per_sample(shuffled, (3, 2), "noise", 7), strict=True):
        assert torch.equal(row, rows[sample])
    times = dict(zip(samples, rng.uniform_per_sample(samples, "t", 7).tolist(), strict=True))
    assert times == dict(zip(shuffled, rng.uniform_per_sample(shuffled, "t", 7).tolist(), strict=True))


def test_the_laws() -> None:
    rng = NamedRNG(11)
    normal, uniform = rng.normal((20000,), "n"), rng.uniform((20000,), "u")
    assert normal.dtype == uniform.dtype == torch.float32
    assert normal.mean().item() == pytest.approx(0, abs=0.03)
    assert normal.std().item() == pytest.approx(1, abs=0.03)
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    rows = rng.normal_per_sample(range(2000), (4,), "rows")
    assert rows.std().item() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(rows.T).fill_diagonal_(0).abs().max() < 0.1, "nor do different counters share anything"


def test_shapes() -> None:
    rng = NamedRNG(0)
    assert rng.normal_per_sample([4, 9], (3, 2), "n").shape == (2, 3, 2)
    assert rng.uniform_per_sample([4, 9, 1], "u").shape == (3,)
    assert rng.uniform((), "u").shape == ()
