"""Phases of a run: every period within one is exact, and where one ends the next case is the next case."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewstep.data.batch_slice import batch_slice
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import (
    Ratio,
    position_at,
    task_turns,
    turn_at,
    turns,
    used_tasks,
)
from fewstep.data.order import BatchOrder
from fewstep.data.phases import (
    Phases,
    constant,
    phases_of,
    refuse_beyond,
    zip_phases,
)
from fewstep.data.sample_counts import count_samples
from fewstep.data.streams import (
    Stream,
    by_category,
    by_source,
)
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import TASKS, Task
from tests.data.plain_order import case_at, unchanging

WEIGHTS = st.lists(st.integers(0, 30), min_size=1, max_size=7).filter(any)
RATIOS = st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any).map(lambda pair: Ratio(*pair))


@st.composite
def mixtures(draw: st.DrawFn) -> Phases[Ratio]:
    ends = sorted(draw(st.sets(st.integers(1, 60), max_size=3)))
    return Phases(tuple(draw(st.lists(RATIOS, min_size=len(ends) + 1, max_size=len(ends) + 1))), tuple(ends))


# ---- counting without going through


@given(WEIGHTS, st.integers(0, 400))
def test_turns_count_what_going_through_counts(weights: list[int], n: int) -> None:
    in_turn = Counter(position_at(i, weights).stream for i in range(n))
    assert [turns(n, weights, j) for j in range(len(weights))] == [in_turn[j] for j in range(len(weights))]


@given(mixtures(), st.integers(0, 120))
def test_a_batch_knows_how_many_of_its_task_came_before(mixture: Phases[Ratio], until: int) -> None:
    seen: Counter[Task] = Counter()
    for i in range(until):
        task, turn = turn_at(i, mixture)
        assert turn == seen[task]
        assert mixture.at(i).weights[TASKS.index(task)] > 0
        seen[task] += 1
    assert {task: task_turns(until, mixture, task) for task in TASKS} == {task: seen[task] for task in TASKS}


@given(mixtures())
def test_every_period_within_a_phase_is_exact(mixture: Phases[Ratio]) -> None:
    for number, start, end in mixture.spans(120):
        ratio = mixture.values[number]
        period = sum(ratio.weights)
        for first in range(start, end - period + 1):
            held = Counter(turn_at(i, mixture)[0] for i in range(first, first + period))
            assert (held["t2i"], held["edit"]) == ratio.weights


@given(mixtures(), mixtures(), st.integers(0, 120))
def test_merged_phases_hold_what_each_holds(one: Phases[Ratio], other: Phases[Ratio], i: int) -> None:
    assert zip_phases(one, other).at(i) == (one.at(i), other.at(i))


@given(mixtures(), st.integers(1, 120))
def test_spans_cover_every_iteration_once(mixture: Phases[Ratio], until: int) -> None:
    spans = list(mixture.spans(until))
    assert (spans[0].start, spans[-1].end) == (0, until)
    assert all(a.end == b.start for a, b in pairwise(spans))


def test_ratios_of_one_task_alone() -> None:
    assert used_tasks(constant(Ratio(10, 0))) == ("t2i",)
    assert used_tasks(Phases((Ratio(10, 0), Ratio(0, 10)), (5,))) == ("t2i", "edit")
    assert [turn_at(i, Phases((Ratio(10, 0), Ratio(0, 10)), (2,))) for i in range(4)] == [
        ("t2i", 0),
        ("t2i", 1),
        ("edit", 0),
        ("edit", 1),
    ]


@pytest.mark.parametrize(
    ("untils", "expected"),
    [
        ([], "tasks is an empty schedule"),
        ([None, None], r"tasks\.0 has no `until`; only the last"),
        ([5, 5, None], r"tasks\.1\.until is 5, not after 5: a schedule runs forwards"),
        ([500, 100, None], r"tasks\.1\.until is 100, not after 500: .* Put its entries in order"),
        ([0, None], r"tasks\.0\.until is 0, not after 0"),
        ([-3, None], r"tasks\.0\.until is -3"),
        ([5, 9], r"tasks\.1\.until: the last entry holds to the end"),
    ],
)
def test_schedules_that_are_none(untils: list[int | None], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        phases_of([0] * len(untils), untils, "tasks")


def test_a_phase_that_no_run_reaches() -> None:
    refuse_beyond(Phases((1, 2), (9,)), 10, "tasks")
    for end in (10, 11):
        with pytest.raises(RecipeError, match=rf"tasks\.0\.until is {end}, but run\.iterations is 10"):
            refuse_beyond(Phases((1, 2), (end,)), 10, "tasks")


# ---- the order of cases


def cases(count: int, category: str, task: Task = "t2i") -> tuple[Case, ...]:
    return tuple(Case(f"{category}{n}", "t2i", f"{category} {n}", category) for n in range(count))


def kind(case: Case) -> int:
    """Two kinds, unevenly."""
    return int(case.id[-1]) // 7


@st.composite
def compositions(draw: st.DrawFn) -> Composition:
    """Both tasks, each with phases of its own over the same sources."""
    streams = {}
    for task in TASKS:
        held = [cases(draw(st.integers(1, 12)), f"{task}{name}") for name in "ab"]
        names = [case.category for (case, *_) in held]
        ends = sorted(draw(st.sets(st.integers(1, 40), max_size=2)))
        weights = st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any)
        shares = [dict(zip(names, draw(weights), strict=True)) for _ in range(len(ends) + 1)]
        cut = [tuple(by_category(task, held, [1, 1], share)) for share in shares]
        streams[task] = Phases(tuple(cut), tuple(ends))
    return Composition(draw(mixtures()), streams)


@given(compositions(), st.integers(1, 5), st.integers(0, 3))
def test_no_case_is_repeated_or_skipped_where_a_phase_ends(made: Composition, batch: int, seed: int) -> None:
    """Each stream's cases come in the order of its epochs, as if no phase had been."""
    order: BatchOrder[int] = BatchOrder(made, kind, batch, seed)
    in_turn: dict[tuple[str, int | None], list[Case]] = {}
    for i in range(70):
        task, held = order.cases(i)
        for case in held:
            in_turn.setdefault((case.category, order.group(task, case)), []).append(case)
    for task in made.tasks:
        for stream, count in order.drawn(task, 70):
            of_group = stream.cases[0].category, order.group(task, stream.cases[0])
            alone = [stream.cases[order.index(task, stream, n)] for n in range(count)]
            assert in_turn.get(of_group, []) == alone
            if len(order.kinds[task]) == 1:
                assert alone == [case_at(n, [stream], seed) for n in range(count)], "the order of earlier versions"


@given(compositions(), st.integers(1, 5))
def test_what_is_counted_beforehand_is_what_comes(made: Composition, batch: int) -> None:
    counts = count_samples(made, 70, batch, 0, kind)
    order = BatchOrder(made, kind, batch, 0)
    batches, categories, seen = Counter[Task](), Counter[tuple[Task, str]](), set()
    for i in range(70):
        task, held = order.cases(i)
        batches[task] += 1
        categories.update((task, case.category) for case in held)
        seen |= {(task, case.id) for case in held}
    assert sum((Counter(phase.batches) for phase in counts.phases), Counter()) == batches
    assert Counter(counts.categories) == categories
    assert sum(part.samples for part in counts.sources) == 70 * batch
    assert sum(part.distinct for part in counts.sources) == len(seen)


@given(compositions(), st.integers(0, 69))
def test_a_resumed_run_goes_on_as_the_unbroken_one(made: Composition, resumed_at: int) -> None:
    unbroken, fresh = BatchOrder(made, kind, 3, 0), BatchOrder(made, kind, 3, 0)
    for i in range(resumed_at):
        unbroken.cases(i)
    assert [unbroken.cases(i) for i in range(resumed_at, 72)] == [fresh.cases(i) for i in range(resumed_at, 72)]


@given(compositions(), st.integers(0, 10**6), st.integers(1, 8))
def test_any_number_of_ranks_shares_the_same_global_batch(made: Composition, i: int, world: int) -> None:
    whole = BatchOrder(made, kind, 8, 0).cases(i)[1]
    parts = [BatchOrder(made, kind, 8, 0).cases(i)[1][batch_slice(8, rank, world)] for rank in range(world)]
    assert tuple(case for part in parts for case in part) == whole
    assert {len(part) for part in parts} <= {8 // world, -(-8 // world)}


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 200))
def test_categories_are_exact_over_every_period_of_a_phase(a: int, b: int, start: int) -> None:
    streams = by_category("t2i", [cases(5, "a"), cases(3, "b")], [1, 1], {"a": a, "b": b})
    order = BatchOrder(unchanging(Ratio(1, 0), {"t2i": streams}), lambda case: 0, 1, 0)
    held = Counter(order.cases(i)[1][0].category for i in range(start, start + a + b))
    assert held == {"a": a, "b": b}


def test_one_phase_is_the_order_that_runs_had_before_there_were_phases() -> None:
    streams = by_source("t2i", [cases(5, "a"), cases(4, "b")], [2, 1])
    order = BatchOrder(unchanging(Ratio(1, 0), {"t2i": streams}), lambda case: 0, 4, 0)
    assert [case for i in range(9) for case in order.cases(i)[1]] == [case_at(n, streams, 0) for n in range(36)]


def test_a_stream_that_pauses_goes_on_where_it_was() -> None:
    a, b = (Stream(name, 1, cases(10, name), n) for n, name in enumerate("ab"))
    made = Composition(constant(Ratio(1, 0)), {"t2i": Phases(((a,), (b,), (a,)), (1, 2))})
    order = BatchOrder(made, lambda case: 0, 5, 0)
    assert {case.id for i in (0, 2) for case in order.cases(i)[1]} == {f"a{n}" for n in range(10)}
