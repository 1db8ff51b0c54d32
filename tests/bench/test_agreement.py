"""Agreement has its published values; duels have the strengths that made them."""

import math

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fewstep.bench.agreement import (
    judge_agreement,
    kendall,
    krippendorff,
)
from fewstep.bench.pairwise import (
    Duel,
    Won,
    davidson,
    win_rates,
)

# Four observers, twelve units: the worked example of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011).
_ = math.nan
EXAMPLE = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]


def test_alpha_of_the_worked_example() -> None:
    assert krippendorff(EXAMPLE, "interval") == pytest.approx(0.849, abs=5e-4)
    assert krippendorff(EXAMPLE, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 5, 300).round(2)
    assert krippendorff([x, x]) == 1
    assert krippendorff([x, rng.permutation(x)]) == pytest.approx(0, abs=0.12)
    assert krippendorff([[3, 3], [3, 3]]) is None
    assert krippendorff([[3, _], [_, 3]]) is None


def test_kendall_sees_order_alone() -> None:
    assert kendall([1, 2, 3, 4], [1.5, 2.5, 3.5, 4.9]) == 1
    assert kendall([1, 2, 3, 4], [4, 3, 2, 1]) == -1
    assert kendall([1, 1, 2, 2], [1, 2, 1, 2]) == 0
    assert kendall([1, 2], [3, 3]) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(1, 5)), min_size=2, max_size=60))
@settings(deadline=None)
def test_kendall_is_scipy_s_to_the_last_bit(scores: list[tuple[int, float]]) -> None:
    a, b = (list(of_judge) for of_judge in zip(*scores, strict=True))
    for other in (b, [round(score) for score in b]):
        if (found := kendall(a, other)) is not None:
            assert found == stats.kendalltau(a, other, variant="b").statistic


def test_agreement_is_of_pictures_both_scored() -> None:
    records = [(str(i), 0, float(i)) for i in range(5)]
    strict = [(case, seed, score - 0.5) for case, seed, score in records[:4]]
    found = judge_agreement({"s": {"A": {"x": records}, "B": {"x": strict}}})["A / B"]
    assert (found["n"], found["kendall"]) == (4, 1)
    assert 0 < found["alpha_interval"] < 1  # type: ignore[operator]


# ---- duels

STRENGTH = {"a": 0.9, "b": 0.2, "c": -0.3, "d": -0.8}


def fought(n: int, delta: float, nu: float, seed: int = 0) -> list[Duel]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        first, second = rng.choice(list(STRENGTH), 2, replace=False)
        s, t = STRENGTH[first], STRENGTH[second]
        logits = np.array([s + delta, t, nu + (s + t + delta) / 2])
        p = np.exp(logits) / np.exp(logits).sum()
        names: tuple[Won, ...] = ("first", "second", "tie")
        found.append(Duel(f"case{i % 500}", str(first), str(second), names[rng.choice(3, p=p)]))
    return found


def test_davidson_finds_what_made_the_duels() -> None:
    found = davidson(fought(6000, delta=0.4, nu=-0.3))
    for name, strength in STRENGTH.items():
        estimate = found.systems[name]
        assert estimate.value == pytest.approx(strength, abs=0.12)
        assert estimate.low < estimate.value < estimate.high  # type: ignore[operator]
    assert found.first_place.value == pytest.approx(0.4, abs=0.12)
    assert found.tie == pytest.approx(1 / (1 + 2 * math.exp(0.3)), abs=0.02)


def test_davidson_without_ties_is_choix() -> None:
    names = sorted(STRENGTH)
    duels = fought(800, delta=0.0, nu=-math.inf)
    wins = [(d.first, d.second) if d.won == "first" else (d.second, d.first) for d in duels]
    theirs = choix.ilsr_pairwise(4, [(names.index(w), names.index(x)) for w, x in wins], alpha=0)
    ours = davidson(duels, prior_sd=math.inf, order_effect=False)
    assert [ours.systems[n].value for n in names] == pytest.approx(list(theirs - theirs.mean()), abs=1e-4)
    assert ours.tie == 0
    assert ours.first_place.value is None


def test_intervals_of_strengths_cover() -> None:
    hits = []
    for trial in range(60):
        found = davidson(fought(400, delta=0.2, nu=-0.5, seed=trial)).systems
        hits += [found[n].low <= s <= found[n].high for n, s in STRENGTH.items()]  # type: ignore[operator]
    assert 0.9 <= np.mean(hits) <= 0.985


def test_a_system_that_wins_always_stays_finite() -> None:
    duels = [Duel(str(i), *(("a", "b") if i % 2 else ("b", "a")), "first" if i % 2 else "second") for i in range(20)]
    found = davidson(duels)
    assert found.systems["a"].value > found.systems["b"].value  # type: ignore[operator]
    assert found.systems["a"].value < 10  # type: ignore[operator]


def test_win_rates_count_ties_half_and_both_orders() -> None:
    duels = [Duel("1", "a", "b", "first"), Duel("1", "b", "a", "tie"), Duel("2", "b", "a", "first")]
    found = win_rates(duels)
    assert found["a", "b"].value == pytest.approx(0.5)
    assert found["b", "a"].value == pytest.approx(0.5)
    assert found["a", "b"].clusters == 2


def test_three_wins_of_three_are_not_certain() -> None:
    """Clopper and Pearson's interval; and duels that are all ties say nothing about how far strengths may lie."""
    won = win_rates([Duel(str(i), "a", "b", "first") for i in range(3)])["a", "b"]
    assert (won.value, won.low, won.high) == (1.0, pytest.approx(0.025 ** (1 / 3)), 1.0)
    tied = davidson([Duel(str(i), *(("a", "b") if i % 2 else ("b", "a")), "tie") for i in range(6)])
    assert (tied.systems["a"].value, tied.systems["a"].low) == (pytest.approx(0, abs=1e-6), None)
