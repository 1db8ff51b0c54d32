"""`run.blocks_to_swap: auto` takes the fewest blocks with which each task fits in some setting."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from fewstep.roles.teacher_plan import BASE
from fewstep.run.budget.auto_memory import settle_auto
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.host_blocks import host_blocks, saved_by_number, with_swapped
from fewstep.run.budget.memory_settings import MemorySetting, Trials, memory_settings
from fewstep.run.budget.op_counter import Phase
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.recipe import Recipe
from fewstep.runtime.parallel import SINGLE_RANK
from tests.run.budget.test_rehearsal import batch_shape, recipe, size

LAYERS = 8
KIND = replace(size("qwen-image-2.1"), config={**size("qwen-image-2.1").config, "num_layers": LAYERS})
T2I, EDIT = (batch_shape("qwen-image-2.1", task, 12) for task in ("t2i", "edit"))
BASE_BLOCKS = 10  # that the base weighs, outside its blocks too
ALL_SWAPPED = recipe("run.gradient_checkpointing=full", f"run.blocks_to_swap={LAYERS}")
BLOCK = max(host_blocks(ALL_SWAPPED, KIND.transformer).swapped[BASE])
OF_A_SAMPLE = {"off": 8.0, "selective": 3.0, "full": 0.5}  # of activations, in blocks; twice as much for an edit
WORK = {"off": 3.0, "selective": 3.2, "full": 4.0}


class Table:
    """Counts with the figures above, blocks in host memory as the forecast does, and notes what a rehearsal would be.

    gap: bytes that a swapped block costs beyond what is reckoned.
    """

    def __init__(self, gap: int = 0, gradients: float = 0.0) -> None:
        self.rehearsed: set[tuple[str, str, int]] = set()
        self._gap, self._gradients = gap, gradients

    def __call__(self, planned: Recipe, shape: BatchShape, samples: int, **named: Any) -> TaskForecast:
        how, parts = planned.run.recomputation(shape.task), planned.run.parts(shape.task)
        self.rehearsed.add((shape.task, how, parts))
        activations = OF_A_SAMPLE[how] * (2 if shape.task == "edit" else 1) * -(-samples // parts)
        activations += self._gradients if parts > 1 else 0.0
        peak = Counter({"weights of the base": BASE_BLOCKS * BLOCK, "activations": round(activations * BLOCK)})
        peak["gaps"] += self._gap * planned.run.swapped_blocks
        phase = Phase("critic", peak, round(WORK[how] * samples), 0, 0)
        rollout = Phase("rollout", Counter[str](), 0, 0, 0)
        whole = TaskForecast(shape, samples, parts, samples, (rollout, phase), {}, 1, 0.0)
        return host_blocks(planned, KIND.transformer).off_the_device(whole)


def plan(**keys: Any) -> Recipe:
    wanted = {"run.batch": 4, "run.gradient_checkpointing": "auto", "run.blocks_to_swap": "auto"}
    return recipe("run.gradient_checkpointing=auto").changed(wanted | keys)


def settled(
    blocks: float, planned: Recipe, count: Table, every: bool = False
) -> tuple[Recipe, tuple[MemorySetting, ...]]:
    """For a card of so many blocks."""
    return settle_auto(planned, trials(blocks, count), every)


def trials(blocks: float, count: Table) -> Trials:
    return Trials(KIND, [T2I, EDIT], SINGLE_RANK, GPUMemory(blocks * BLOCK / 1e9), count)


def tried_one_by_one(blocks: float, planned: Recipe, count: Table) -> int | None:
    """The fewest with which everything fits, found without arithmetic."""
    for number in (0, *range(3, LAYERS + 1)):
        settings = memory_settings(with_swapped(planned, number), trials(blocks, count))
        if {one.task for one in settings if one.taken} == {"t2i", "edit"}:
            return number
    return None


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("gradients", [0.0, 1.5, 6.0], ids=lambda some: f"gradients-{some:g}")
@pytest.mark.parametrize("blocks", [4.9, 5.0, 5.5, 6.1, 7.0, 8.4, 9.0, 10.0, 11.0, 12.5, 15.0, 30.0])
def test_the_number_is_the_least_that_fits(blocks: float, gradients: float, parts: int) -> None:
    """gradients: of several parts, which then may take more than a whole batch."""
    planned = plan(**{"run.gradient_accumulation": parts})
    expected = tried_one_by_one(blocks, planned, Table(gradients=gradients))
    found, settings = settled(blocks, planned, Table(gradients=gradients))
    assert found.run.blocks_to_swap == (LAYERS if expected is None else expected)
    taken = {one.task for one in settings if one.taken}
    assert taken == {"t2i", "edit"} if expected is not None else taken < {"t2i", "edit"}


def test_the_cases_above_are_all_there_are() -> None:
    numbers = [tried_one_by_one(one, plan(), Table()) for one in (4.9, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0)]
    assert numbers == [None, 8, 7, 6, 5, 4, 3, 0]


def test_what_is_not_swapped_may_compute_nothing_again() -> None:
    found, settings = settled(100, plan(), Table())
    assert (found.run.blocks_to_swap, found.run.gradient_checkpointing) == (0, {"t2i": "off", "edit": "off"})
    assert {one.swapped for one in settings} == {0}


def test_blocks_are_swapped_only_where_no_setting_fits_without() -> None:
    """Full recomputation, and one sample at a time, come before a transfer."""
    found, _ = settled(11.0, plan(), Table())
    assert found.run.blocks_to_swap == 0
    assert found.run.gradient_checkpointing == {"t2i": "full", "edit": "full"}
    found, settings = settled(10.2, plan(), Table())
    assert (found.run.blocks_to_swap, found.run.recomputation("t2i")) == (3, "full")
    rows = [(one.task, one.swapped, one.recomputation, one.fits, one.taken) for one in settings]
    assert rows == [
        ("t2i", 0, "full", False, False), ("t2i", 3, "selective", False, False), ("t2i", 3, "full", True, True),
        ("edit", 0, "full", False, False), ("edit", 3, "selective", False, False), ("edit", 3, "full", True, True),
    ]  # fmt: skip


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("blocks", [4.9, 7.2, 10.2, 12.5, 30.0])
def test_at_most_one_more_iteration_of_each_task_is_rehearsed(blocks: float, every: bool) -> None:
    chosen, named = Table(), Table()
    found, _ = settled(blocks, plan(), chosen, every)
    memory_settings(with_swapped(plan(), found.run.swapped_blocks), trials(blocks, named), every)
    more = chosen.rehearsed - named.rehearsed
    assert len(more) <= 2
    assert {task for task, *_ in more} <= {"t2i", "edit"}
    assert named.rehearsed <= chosen.rehearsed


def test_the_forecast_decides_not_the_bytes() -> None:
    """Where a swapped block costs more than what was reckoned, a number that should have fitted is passed over."""
    assert settled(8.0, plan(), Table())[0].run.blocks_to_swap == 5
    found, settings = settled(8.0, plan(), Table(gap=BLOCK // 4))
    assert found.run.blocks_to_swap == tried_one_by_one(8.0, plan(), Table(gap=BLOCK // 4)) == 7
    assert {one.task for one in settings if one.taken} == {"t2i", "edit"}
    assert all(one.bytes <= 8.0 * BLOCK for one in settings if one.taken)


def test_settings_that_have_a_name_stay() -> None:
    named = plan(**{"run.gradient_checkpointing": {"t2i": "selective", "edit": "full"}, "run.gradient_accumulation": 4})
    count = Table()
    found, settings = settled(9.5, named, count)
    assert found.run.blocks_to_swap == 6
    assert found.run.gradient_checkpointing == named.run.gradient_checkpointing
    assert count.rehearsed == {("t2i", "selective", 4), ("edit", "full", 4)}
    assert [one.task for one in settings if one.taken] == ["t2i", "edit"]


def test_too_few_blocks_to_save_anything_stay_where_they_are() -> None:
    kind = size("qwen-image-2.1")
    assert saved_by_number(plan(), kind.transformer) == {0: 0}
    found, settings = settle_auto(plan(), Trials(kind, [T2I], SINGLE_RANK, GPUMemory(1e-9), Table()))
    assert found.run.blocks_to_swap == 0
    assert not any(one.taken for one in settings)


def test_a_plan_of_one_task_can_be_changed() -> None:
    """What the other task computes again must not stand against swapped blocks."""
    found, _ = settle_auto(
        plan(tasks={"t2i": 1, "edit": 0}), Trials(KIND, [T2I], SINGLE_RANK, GPUMemory(1e-9), Table())
    )
    assert found.run.blocks_to_swap == LAYERS
    assert found.changed({"run.base_weights": "int8"}).run.blocks_to_swap == LAYERS
