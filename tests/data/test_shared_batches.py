"""Batches where few cases have one shape: no case comes more often, or twice in a batch, because of that."""

from collections import Counter
from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fewstep.data.batch_slice import batch_slice
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import Ratio, index_apart, index_at, most_turns, position_at
from fewstep.data.order import BatchOrder
from fewstep.data.phases import Phases, constant
from fewstep.data.sample_counts import count_samples
from fewstep.data.shared_batches import is_small, sharing_kinds
from fewstep.data.streams import Stream, by_category, by_source, split_by_group
from tests.data.plain_order import unchanging

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)  # cases of each kind


def cases_of(sizes: list[int], categories: int = 1) -> list[Case]:
    """Cases whose kind is their width."""
    kinds = [width for width, count in enumerate(sizes, 1) for _ in range(count)]
    return [
        Case(f"c{n}", "t2i", f"prompt {n}", f"category {n % categories}", height=1, width=width)
        for n, width in enumerate(kinds)
    ]


def width(case: Case) -> int:
    assert case.width is not None
    return case.width


def order_of(cases: list[Case], batch: int, seed: int = 0, weights: dict[str, int] | None = None) -> BatchOrder[int]:
    streams = by_category("t2i", [cases], [1], weights) if weights else by_source("t2i", [cases], [1])
    return BatchOrder(unchanging(Ratio(1, 0), {"t2i": streams}), width, batch, seed)


# ---- the parts it is made of


@given(st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any), st.integers(1, 40), st.integers(0, 10**9))
@example([1, 0, 0], 1, 0)
def test_no_stream_has_more_turns_in_a_row_than_was_said(weights: list[int], n: int, start: int) -> None:
    counts = Counter(position_at(i, weights).stream for i in range(start, start + n))
    assert all(counts[j] <= most_turns(n, weights, j) for j in range(len(weights)))


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 2**40), st.integers(0, 6))
def test_epochs_hold_every_case_once_and_keep_cases_apart(size: int, apart: int, seed: int, epoch: int) -> None:
    order = [index_apart(i, size, "s", seed, apart) for i in range(epoch * size, (epoch + 2) * size)]
    assert sorted(order[:size]) == sorted(order[size:]) == list(range(size))
    reach = min(apart, size // 3) + 1
    for at in range(len(order) - reach + 1):
        assert len({*order[at : at + reach]}) == reach
    if epoch == 0 or apart == 0:
        assert order[:size] == [index_at(i, size, "s", seed) for i in range(epoch * size, (epoch + 1) * size)]


# ---- batches


def assert_no_case_twice(order: BatchOrder[int], batches: int) -> None:
    for i in range(batches):
        held = [case.id for case in order.cases(i)[1]]
        assert len({*held}) == len(held), i


@given(SIZES, st.integers(1, 8), st.integers(0, 3))
def test_no_case_is_repeated_in_a_batch(sizes: list[int], batch: int, seed: int) -> None:
    """Unless there are too few cases altogether, or one kind alone: its order is that of earlier versions."""
    cases = cases_of(sizes)
    if len(sizes) > 1 and len(cases) >= 3 * batch:
        assert_no_case_twice(order_of(cases, batch, seed), 3 * len(cases) // batch)


@given(SIZES, st.integers(1, 6), st.integers(1, 3), st.integers(0, 3))
def test_nor_with_categories_of_unequal_weights(sizes: list[int], batch: int, a: int, seed: int) -> None:
    cases = cases_of(sizes, categories=2)
    counts = Counter(case.category for case in cases)
    if len(sizes) > 1 and len(counts) == 2 and min(counts.values()) >= 3 * batch:
        weights = {"category 0": a, "category 1": 1}
        assert_no_case_twice(order_of(cases, batch, seed, weights), 2 * len(cases) // batch)


@given(SIZES, st.integers(1, 6), st.integers(0, 3))
def test_every_case_comes_once_an_epoch_whatever_its_kind(sizes: list[int], batch: int, seed: int) -> None:
    cases = cases_of(sizes)
    order = order_of(cases, batch, seed)
    epochs = 3 * batch  # after which every group has had whole epochs
    seen = Counter(case.id for i in range(len(cases) * epochs // batch) for case in order.cases(i)[1])
    assert set(seen.values()) == {epochs}
    assert len(seen) == len(cases)


@given(SIZES, st.integers(1, 6))
def test_kinds_with_enough_cases_have_batches_of_their_own(sizes: list[int], batch: int) -> None:
    order = order_of(cases_of(sizes), batch)
    for i in range(60):
        kinds = {width(case) for case in order.cases(i)[1]}
        assert len(kinds) == 1 or kinds <= order.sharing["t2i"]
    for kind in {*range(1, len(sizes) + 1)} - order.sharing["t2i"]:
        assert sizes[kind - 1] >= 3 * (batch - 1) or len(sizes) == 1


@given(SIZES, st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_categories_keep_their_shares(sizes: list[int], batch: int, a: int, b: int) -> None:
    """In the mean over all groups; within one, to less than a turn per halving."""
    cases = cases_of(sizes, categories=2)
    if len({case.category for case in cases}) < 2:
        return
    order = order_of(cases, batch, weights={"category 0": a, "category 1": b})
    (leg,) = order._legs["t2i"]
    period = sum(leg.weights) * sum(s.weight for _, streams in leg.groups for s in streams)
    if period * batch > 3000:
        return
    counts = Counter(case.category for i in range(period) for case in order.cases(i)[1])
    assert counts["category 0"] * b == counts["category 1"] * a


def test_a_group_that_would_repeat_takes_in_further_kinds() -> None:
    """Three cases of rare shapes cannot fill batches of 4 among themselves; the smallest of the others join them."""
    sizes = [1, 1, 1, 12, 60, 60]
    order = order_of(cases_of(sizes), 4)
    assert order.sharing["t2i"] == {1, 2, 3, 4}
    assert_no_case_twice(order, 400)


def test_a_rare_shape_of_a_heavy_category_is_not_drawn_in_heaps() -> None:
    """One case of category 0 among many of category 1 of its shape, at equal weights of the categories: it alone would
    fill half of the shape's batches."""
    heavy = [Case(f"h{n}", "t2i", "x", "heavy", height=1, width=1 + n % 3) for n in range(12)]
    light = [Case(f"l{n}", "t2i", "x", "light", height=1, width=1 + n % 3) for n in range(900)]
    order = order_of([*heavy, *light], 4, weights={"heavy": 1, "light": 1})
    assert_no_case_twice(order, 600)
    seen = Counter(case.id for i in range(600) for case in order.cases(i)[1])
    assert {seen[case.id] for case in heavy} == {100}


# ---- 600 photos of 525 shapes


@pytest.fixture(scope="module")
def photos() -> list[Case]:
    """525 shapes: 1 with 50 cases, 2 with 14, and 522 with one."""
    cases = cases_of([50, 14, 14, *[1] * 522], categories=3)
    assert (len(cases), len({width(case) for case in cases})) == (600, 525)
    return cases


@pytest.mark.parametrize("batch", [1, 2, 4, 16, 32])
def test_of_525_shapes_in_600_photos_none_is_neglected_or_repeated(photos: list[Case], batch: int) -> None:
    order = order_of(photos, batch)
    assert_no_case_twice(order, 3 * 600 // batch)
    last = dict.fromkeys((case.id for case in photos), -1)
    for i in range(4 * 600 // batch):
        for case in order.cases(i)[1]:
            assert (i - last[case.id]) * batch <= 2 * 600 + 3 * batch, "it waits two epochs at most"
            last[case.id] = i
    counts = count_samples(order_composition(photos), 600, batch, 0, width)
    assert sum(counts.categories.values()) == 600 * batch


def order_composition(cases: list[Case]) -> Composition:
    return unchanging(Ratio(1, 0), {"t2i": by_source("t2i", [cases], [1])})


def test_what_is_counted_beforehand_comes_and_any_rank_and_any_start_see_the_same(photos: list[Case]) -> None:
    categories = {"category 0": 3, "category 1": 2, "category 2": 1}
    streams = tuple(by_category("t2i", [photos], [1], categories))
    later = tuple(by_category("t2i", [photos], [1], {"category 0": 1, "category 2": 5}))
    made = Composition(constant(Ratio(1, 0)), {"t2i": Phases((streams, later), (130,))})
    order: BatchOrder[int] = BatchOrder(made, width, 8, 3)
    held = [order.cases(i)[1] for i in range(260)]
    assert Counter((case.task, case.category) for batch in held for case in batch) == Counter(
        count_samples(made, 260, 8, 3, width).categories
    )
    for i in (259, 131, 0):
        fresh: BatchOrder[int] = BatchOrder(made, width, 8, 3)
        parts = [fresh.cases(i)[1][batch_slice(8, rank, 3)] for rank in range(3)]
        assert tuple(case for part in parts for case in part) == held[i]


def test_groups_are_those_of_all_phases() -> None:
    """A kind that is small in one phase only shares batches in all, so its stream goes on."""
    a = Stream("a", 1, tuple(cases_of([20, 20])))
    few = Stream("b", 1, tuple(Case(f"b{n}", "t2i", "x", height=1, width=1) for n in range(2)))
    phases = Phases(((a,), (a, few)), (10,))
    assert sharing_kinds(constant((a,)), width, 4) == frozenset()
    assert 1 in sharing_kinds(phases, width, 4)


def test_one_kind_never_shares_and_is_ordered_as_ever() -> None:
    order = order_of(cases_of([5]), 4)
    assert order.revision == 1
    assert order.sharing == {"t2i": frozenset()}
    assert [case.id for i in range(5) for case in order.cases(i)[1]] == [
        f"c{index_at(n, 5, 't2i/0', 0)}" for n in range(20)
    ]
    assert order_of(cases_of([5, 9]), 1).revision == 1, "alone in its batch, every case has its own layout"
    assert order_of(cases_of([5, 9]), 2).revision == 2


def test_small_is_what_a_batch_could_exhaust() -> None:
    (stream,) = by_source("t2i", [cases_of([9])], [1])
    assert not is_small([stream], 4)
    assert is_small([stream], 5)
    pieces = split_by_group(
        by_category("t2i", [cases_of([9], 3)], [1], {f"category {n}": 1 for n in range(3)}), len_one
    )
    (streams,) = pieces.values()
    assert not is_small(streams, ceil(9 / 3))


def len_one(case: Case) -> int:
    return 1
