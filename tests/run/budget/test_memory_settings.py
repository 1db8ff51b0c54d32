"""`run.gradient_checkpointing: auto` takes, for each task, what costs least and fits."""

from collections import Counter
from typing import Any

import pytest

from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.forecast import forecast
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.memory_settings import MemorySetting, Trials, _fewest_parts, memory_settings, with_settings
from fewstep.run.budget.op_counter import Phase
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.recipe import Recipe
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from tests.run.budget.test_rehearsal import batch_shape, recipe, size

KIND = size("qwen-image-2.1")
T2I, EDIT = (batch_shape("qwen-image-2.1", task, 12) for task in ("t2i", "edit"))
GB = 10**9
OF_A_SAMPLE = {"off": 40, "selective": 20, "full": 4}  # GB of activations, twice as many for an edit
WORK = {"off": 3.0, "selective": 3.2, "full": 4.0}


class Table:
    """Counts like a model of 20 GB with the figures above, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def __call__(self, planned: Recipe, shape: BatchShape, samples: int, **named: Any) -> TaskForecast:
        how, parts = planned.run.recomputation(shape.task), planned.run.parts(shape.task)
        self.asked.append((shape.task, how, parts))
        twice = 2 if shape.task == "edit" else 1
        gigabytes = 20 + OF_A_SAMPLE[how] * twice * -(-samples // parts)
        phase = Phase("critic", Counter({"activations": gigabytes * GB}), round(WORK[how] * samples), 0, 0)
        rollout = Phase("rollout", Counter[str](), 0, 0, 0)
        return TaskForecast(shape, samples, parts, samples, (rollout, phase), {}, 1, 0.0)


def plan(**keys: Any) -> Recipe:
    return recipe().changed({"run.batch": 4, "run.gradient_checkpointing": "auto"} | keys)


def settings(
    gigabytes: int, planned: Recipe, count: Any = None, every: bool = False, ranks: Ranks = SINGLE_RANK
) -> list[tuple[str, str, int, bool]]:
    found = memory_settings(planned, Trials(KIND, [T2I, EDIT], ranks, GPUMemory(gigabytes), count or Table()), every)
    return [(one.task, one.recomputation, one.parts, one.taken) for one in found]


def test_the_cheapest_that_fits_is_taken() -> None:
    """First fewer samples at once, which cost no operation; then recomputation. Each task for itself."""
    assert settings(400, plan()) == [("t2i", "off", 1, True), ("edit", "off", 1, True)]
    assert settings(100, plan()) == [("t2i", "off", 2, True), ("edit", "off", 4, True)]
    assert settings(80, plan()) == [
        ("t2i", "off", 4, True), ("edit", "off", 4, False), ("edit", "selective", 4, True)
    ]  # fmt: skip
    assert settings(55, plan())[-1] == ("edit", "full", 1, True)


def test_swapped_blocks_go_with_recomputation_alone() -> None:
    """Where off would fit too: autograd would hold every block until the backward pass."""
    swapped = plan(**{"run.blocks_to_swap": 3})
    assert settings(400, swapped) == [("t2i", "selective", 1, True), ("edit", "selective", 1, True)]
    assert {how for _, how, *_ in settings(400, swapped, every=True)} == {"selective", "full"}


def test_a_table_has_what_costs_more_too() -> None:
    assert settings(100, plan(), every=True) == [
        ("t2i", "off", 2, True), ("t2i", "selective", 1, False), ("t2i", "full", 1, False),
        ("edit", "off", 4, True), ("edit", "selective", 2, False), ("edit", "full", 1, False),
    ]  # fmt: skip


def test_where_nothing_fits_all_are_told_and_the_least_stands() -> None:
    found = memory_settings(plan(), Trials(KIND, [EDIT], SINGLE_RANK, GPUMemory(21), Table()))
    assert [(one.recomputation, one.parts, one.fits, one.taken) for one in found] == [
        ("off", 4, False, False), ("selective", 4, False, False), ("full", 4, False, False)
    ]  # fmt: skip
    settled = with_settings(plan(), found)
    assert (settled.run.recomputation("edit"), settled.run.parts("edit")) == ("full", 4)


def test_a_settled_recipe_names_each_task() -> None:
    found = memory_settings(plan(), Trials(KIND, [T2I, EDIT], SINGLE_RANK, GPUMemory(80), Table()))
    run = with_settings(plan(), found).run
    assert run.gradient_checkpointing == {"t2i": "off", "edit": "selective"}
    assert run.gradient_accumulation == {"t2i": 4, "edit": 4}


def test_what_cannot_be_is_not_tried() -> None:
    """Parts with `forward_once`, fewer parts than the recipe has, more than samples on a GPU."""
    whole, cut, shared = Table(), Table(), Table()
    settings(21, plan(**{"student.forward_once": True}), whole)
    assert {parts for *_, parts in whole.asked} == {1}
    settings(21, plan(**{"run.gradient_accumulation": {"edit": 2}}), cut)
    assert {(task, parts) for task, _, parts in cut.asked} == {("t2i", 1), ("t2i", 4), ("edit", 2), ("edit", 4)}
    settings(21, plan(), shared, ranks=Ranks(0, 2, 2))
    assert {parts for *_, parts in shared.asked} == {1, 2}


@pytest.mark.parametrize("numbers", [[1], [1, 2, 3], [3, 6, 12], [1, 2, 4, 8, 16, 32, 64]])
@pytest.mark.parametrize("fits_from", [1, 2, 3, 5, 12, 33, 100])
def test_the_fewest_parts_are_found(numbers: list[int], fits_from: int) -> None:
    asked: list[int] = []

    def tried(parts: int) -> MemorySetting:
        asked.append(parts)
        return MemorySetting("t2i", "off", parts, 0, 0, parts >= fits_from)

    fitting = [number for number in numbers if number >= fits_from]
    found = _fewest_parts(numbers, tried)
    assert found.parts == (fitting[0] if fitting else numbers[-1])
    assert found.fits == bool(fitting)
    assert len(asked) == len(set(asked)) <= 5


@pytest.mark.slow
def test_figures_are_those_of_the_forecast() -> None:
    planned = plan(tasks={"t2i": 1, "edit": 0})
    found = memory_settings(planned, Trials(KIND, [T2I], SINGLE_RANK, GPUMemory(1), forecast))
    assert [one.recomputation for one in found] == ["off", "selective", "full"]
    assert sorted(found, key=lambda one: one.flops) == list(found), "in the order of their cost"
    assert sorted(found, key=lambda one: -one.bytes) == list(found)
    explicit = forecast(planned.changed({"run.gradient_checkpointing": "selective"}), T2I, 4, True, KIND)
    assert (found[1].bytes, found[1].flops) == (explicit.peak.bytes, explicit.flops)
