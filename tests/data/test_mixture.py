"""Order as a pure function of the index: exact over every period, evenly spread, the same after a resume."""

from collections import Counter
from fractions import Fraction
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewstep.data.cases import Case
from fewstep.data.mixture import (
    Ratio,
    index_at,
    position_at,
    stream_at,
    turn_at,
)
from fewstep.data.phases import constant
from fewstep.data.streams import (
    Stream,
    by_category,
    by_source,
    smallest_integers,
    split_by_group,
)
from fewstep.runtime.errors import RecipeError
from tests.data.plain_order import case_at

WEIGHTS = st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any)
START = st.integers(0, 10**12)


@given(WEIGHTS, START)
def test_every_period_is_exact_wherever_it_starts(weights: list[int], start: int) -> None:
    period = sum(weights)
    counts = Counter(stream_at(i, weights) for i in range(start, start + period))
    assert [counts[j] for j in range(len(weights))] == weights


@given(WEIGHTS, st.integers(1, 300))
def test_no_stream_is_far_from_its_share_at_any_time(weights: list[int], until: int) -> None:
    counts = Counter(stream_at(i, weights) for i in range(until))
    halvings = ceil(log2(len(weights))) if len(weights) > 1 else 1
    for j, weight in enumerate(weights):
        assert abs(counts[j] - Fraction(until * weight, sum(weights))) < halvings


@given(WEIGHTS, st.integers(1, 300))
def test_rank_counts_the_turns_of_a_stream(weights: list[int], until: int) -> None:
    seen: Counter[int] = Counter()
    for i in range(until):
        stream, rank = position_at(i, weights)
        assert rank == seen[stream]
        seen[stream] += 1


@given(st.integers(0, 20), st.integers(0, 20), START)
def test_tasks_keep_the_published_formula(t2i: int, edit: int, i: int) -> None:
    if t2i + edit == 0:
        return
    n = t2i + edit
    expected = "edit" if (i + 1) * edit // n > i * edit // n else "t2i"
    assert turn_at(i, constant(Ratio(t2i, edit)))[0] == expected


def test_five_to_five_alternates() -> None:
    tasks = [turn_at(i, constant(Ratio(5, 5)))[0] for i in range(6)]
    assert tasks == ["t2i", "edit"] * 3
    assert [turn_at(i, constant(Ratio(1, 1)))[0] for i in range(6)] == tasks


@pytest.mark.parametrize("ratio", [(0, 0), (-1, 2), (3, -3)])
def test_a_ratio_with_nothing_in_it_is_refused(ratio: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="such as 5:5"):
        Ratio(*ratio)


@given(st.integers(1, 80), st.integers(0, 5), st.integers(0, 2**40))
def test_an_epoch_shows_every_case_once(size: int, epoch: int, seed: int) -> None:
    order = [index_at(i, size, "s", seed) for i in range(epoch * size, (epoch + 1) * size)]
    assert sorted(order) == list(range(size))


def test_orders_differ_by_epoch_seed_and_name_and_never_change() -> None:
    def order(name: str, seed: int, epoch: int) -> list[int]:
        return [index_at(i, 12, name, seed) for i in range(12 * epoch, 12 * epoch + 12)]

    assert order("a", 0, 0) == [11, 5, 9, 8, 1, 7, 6, 4, 10, 3, 0, 2], "runs that resume count on this very order"
    assert len({tuple(order(*which)) for which in [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0)]}) == 4


def cases(count: int, category: str, prefix: str = "") -> list[Case]:
    return [Case(f"{prefix}{category}-{n}", "t2i", f"{category} {n}", category) for n in range(count)]


def counted(streams: list[Stream], samples: int) -> Counter[str]:
    return Counter(case_at(i, streams, 0).category for i in range(samples))


def test_categories_have_their_shares_however_many_cases_they_have() -> None:
    sources = [cases(3, "text") + cases(40, "portrait"), cases(7, "text", "b")]
    streams = by_category("t2i", sources, [1, 3], {"text": 1, "portrait": 2})
    assert counted(streams, 12 * 5) == {"text": 20, "portrait": 40}
    texts = Counter(case_at(i, streams, 0).id[0] for i in range(120) if case_at(i, streams, 0).category == "text")
    assert texts == {"t": 10, "b": 30}, "sources of one category split it by their weights"


def test_sources_have_their_weights() -> None:
    streams = by_source("t2i", [cases(50, "a"), cases(2, "b"), cases(9, "c")], [6, 3, 0])
    assert [stream.weight for stream in streams] == [2, 1]
    assert counted(streams, 30) == {"a": 20, "b": 10}


def test_a_category_that_no_source_has_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"category_weights\.t2i\.texts: no source has this category; they have text"):
        by_category("t2i", [cases(3, "text")], [1], {"texts": 1})
    with pytest.raises(RecipeError, match="no source has"):
        by_category("t2i", [cases(3, "text"), cases(3, "a")], [0, 1], {"text": 1})


def test_a_category_left_out_or_weighed_zero_does_not_come() -> None:
    streams = by_category("t2i", [cases(3, "a") + cases(3, "b") + cases(3, "c")], [1], {"a": 2, "b": 0})
    assert counted(streams, 10) == {"a": 10}


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=4), st.integers(1, 5))
def test_splitting_into_groups_keeps_every_case_its_chance(shape: list[tuple[int, int]], groups: int) -> None:
    streams = [Stream(f"s{n}", weight, tuple(cases(size, f"s{n}"))) for n, (weight, size) in enumerate(shape)]
    parts = split_by_group(streams, lambda case: int(case.id.split("-")[-1]) % groups)
    total = sum(stream.weight for part in parts.values() for stream in part)
    before = sum(stream.weight for stream in streams)
    for stream in streams:
        chance = Fraction(stream.weight, before * len(stream.cases))
        for part in parts.values():
            for piece in (piece for piece in part if piece.name == stream.name):
                assert Fraction(piece.weight, total * len(piece.cases)) == chance


@given(st.lists(st.fractions(0, 100), min_size=1, max_size=6))
def test_whole_numbers_keep_the_proportion(shares: list[Fraction]) -> None:
    numbers = smallest_integers(shares)
    assert all(
        a * y == b * x for a, x in zip(numbers, shares, strict=True) for b, y in zip(numbers, shares, strict=True)
    )
