"""What `auto` stands for on a GPU: of `run.blocks_to_swap`, and of `run.gradient_checkpointing` beside it.

Blocks that wait in host memory have to travel, so they are as few as leave each task some setting that fits; with that
number the setting is then the task's cheapest. The number follows from the bytes of each block, and is held against the
forecast of what it leads to.

Every number of blocks shares its rehearsals with all others (`host_blocks.py`). So beside what a plan with the chosen
number rehearses there is at most one iteration for each task: with nothing swapped, in the setting of least memory.
"""

from collections.abc import Mapping

from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.host_blocks import saved_by_number, with_swapped
from fewstep.run.budget.memory_settings import (
    MemorySetting,
    Trials,
    least_settings,
    memory_settings,
    with_settings,
)
from fewstep.run.recipe import Recipe
from fewstep.runtime.task import Task
from fewstep.train.plan import AUTO

Settings = tuple[MemorySetting, ...]


def settle_auto(recipe: Recipe, trials: Trials, every: bool = True) -> tuple[Recipe, Settings]:
    """The recipe with values for each `auto`, and what they were chosen from, task by task.

    Where nothing fits, the values are those of least memory, and no setting is taken.

    every: also the settings that cost more than the one that is taken.
    """
    if recipe.run.blocks_to_swap != AUTO:
        settings = memory_settings(recipe, trials, every)
        return with_settings(recipe, settings), settings
    saved = saved_by_number(recipe, trials.size.transformer)
    resident = least_settings(with_swapped(recipe, 0), trials)
    number, tried = _enough(resident, saved, trials.card), dict[int, Settings]()
    while number not in tried:
        tried[number] = memory_settings(with_swapped(recipe, number), trials, every)
        number = _enough(tried[number], saved, trials.card)  # another one where the forecast is not what the bytes said
    number = min((one for one, settings in tried.items() if _fits(settings)), default=max(tried))
    settings = tried[number]
    told = [*(resident if number else ()), *settings]
    by_task = tuple(setting for shape in trials.shapes for setting in told if setting.task == shape.task)
    return with_settings(with_swapped(recipe, number), settings), by_task


def _enough(settings: Settings, saved: Mapping[int, int], card: GPUMemory) -> int:
    """The fewest blocks with which the least of each task's settings fits, by bytes alone; all where no number does."""
    least: dict[Task, int] = {}
    for one in settings:
        resident = one.bytes + saved[one.swapped]
        least[one.task] = min(resident, least.get(one.task, resident))
    needed = max(least.values()) - card.bytes
    return next((number for number, freed in saved.items() if freed >= needed), max(saved))


def _fits(settings: Settings) -> bool:
    return {one.task for one in settings if one.taken} == {one.task for one in settings}
