"""What `run.gradient_checkpointing: auto` stands for on a GPU: for each task the setting that costs least and fits.

A setting is what the backward pass computes again, and into how many parts a batch is cut. Nothing computed again
costs least, but takes most memory. More parts take less of it and cost no operation. So the order is off, selective,
full, and of each the fewest parts that fit. Where blocks are swapped, off is left out. Memory and operations are those
of rehearsed iterations, as everywhere in a plan.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fewstep.backbones.fake_model import ModelSize
from fewstep.roles.plan import Recomputation
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.recipe import Recipe, with_run_keys
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.task import TASKS, Task
from fewstep.train.plan import AUTO

Forecast = Callable[..., TaskForecast]
CHEAPEST_FIRST: tuple[Recomputation, ...] = ("off", "selective", "full")


@dataclass(frozen=True)
class Trials:
    """What settings are tried with.

    Args:
        shapes: the longest batches of each task.
        card: the GPU's memory that has to suffice.
        count: what counts an iteration, as `forecast.forecast`.
    """

    size: ModelSize
    shapes: Sequence[BatchShape]
    ranks: Ranks
    card: GPUMemory
    count: Forecast


@dataclass(frozen=True)
class MemorySetting:
    """One way of running a task's batches.

    Args:
        parts: the fewest that fit, or the most that there can be where none do.
        bytes: at the fullest moment.
        flops: of the mean iteration on one GPU, at the longest sequences.
        taken: whether it is the task's cheapest that fits.
        swapped: the base's blocks in host memory.
    """

    task: Task
    recomputation: Recomputation
    parts: int
    bytes: int
    flops: int
    fits: bool
    taken: bool = False
    swapped: int = 0


def memory_settings(recipe: Recipe, trials: Trials, every: bool = True) -> tuple[MemorySetting, ...]:
    """The settings of each task, cheapest first; only the recipe's own where it names them.

    every: also those that cost more than the one that is taken.
    """

    def settings(shape: BatchShape) -> Iterator[MemorySetting]:
        tried = partial(_counted, recipe, trials, shape)
        return _of_task(_numbers(recipe, shape.task, trials.ranks), _ways(recipe, shape.task), tried, every)

    return tuple(setting for shape in trials.shapes for setting in settings(shape))


def least_settings(recipe: Recipe, trials: Trials) -> tuple[MemorySetting, ...]:
    """Of each task the setting of least memory: most is computed again, in the most parts."""

    def least(shape: BatchShape) -> MemorySetting:
        how, parts = _ways(recipe, shape.task)[-1], _numbers(recipe, shape.task, trials.ranks)[-1]
        return _counted(recipe, trials, shape, how, parts)

    return tuple(map(least, trials.shapes))


def with_settings(recipe: Recipe, settings: Sequence[MemorySetting]) -> Recipe:
    """The recipe with the settings that are taken; where nothing fits a task, with those of least memory. One that
    names its own stays as it is."""
    if recipe.run.gradient_checkpointing != AUTO:
        return recipe
    last = {setting.task: setting for setting in settings}
    chosen = last | {setting.task: setting for setting in settings if setting.taken}
    recomputed = {task: setting.recomputation for task, setting in chosen.items()}
    recomputed = dict.fromkeys(TASKS, CHEAPEST_FIRST[-1]) | recomputed  # a task without batches goes with any swap
    return with_recomputation(recipe, recomputed, {task: setting.parts for task, setting in chosen.items()})


def with_recomputation(recipe: Recipe, recomputed: Any, parts: Any) -> Recipe:
    return with_run_keys(recipe, {"gradient_checkpointing": recomputed, "gradient_accumulation": parts})


def _counted(recipe: Recipe, trials: Trials, shape: BatchShape, how: Recomputation, parts: int) -> MemorySetting:
    size, ranks = trials.size, trials.ranks
    samples = -(-recipe.run.batch // ranks.world)
    one = trials.count(with_recomputation(recipe, how, parts), shape, samples, on_gpu=True, size=size, ranks=ranks)
    fits, swapped = one.peak.bytes <= trials.card.bytes, recipe.run.swapped_blocks
    return MemorySetting(shape.task, how, parts, one.peak.bytes, one.flops, fits, swapped=swapped)


def _ways(recipe: Recipe, task: Task) -> Sequence[Recomputation]:
    """What a task may compute again, cheapest first. Without recomputation autograd would hold every swapped block
    until the backward pass."""
    if recipe.run.gradient_checkpointing != AUTO:
        return (recipe.run.recomputation(task),)
    return CHEAPEST_FIRST[1:] if recipe.run.swapped_blocks else CHEAPEST_FIRST


def _of_task(
    numbers: Sequence[int],
    ways: Sequence[Recomputation],
    tried: Callable[[Recomputation, int], MemorySetting],
    every: bool,
) -> Iterator[MemorySetting]:
    """The settings of one task in the order of their cost, the first that fits taken."""
    found = False
    for how in ways:
        setting = _fewest_parts(numbers, partial(tried, how))
        taken, found = setting.fits and not found, found or setting.fits
        yield replace(setting, taken=taken)
        if found and not every:
            return


def _numbers(recipe: Recipe, task: Task, ranks: Ranks) -> list[int]:
    """Numbers of parts to try: the recipe's, then each twice the one before, up to one sample at once. With
    `forward_once` a batch stays whole, and so do the recipe's parts where it names what is computed again."""
    numbers = [recipe.run.parts(task)]
    fixed = recipe.student.forward_once or recipe.run.gradient_checkpointing != AUTO
    most = numbers[0] if fixed else recipe.run.batch // ranks.world
    while numbers[-1] < most:
        numbers.append(min(2 * numbers[-1], most))
    return numbers


def _fewest_parts(numbers: Sequence[int], tried: Callable[[int], MemorySetting]) -> MemorySetting:
    """The setting of the fewest parts that fit, by bisection; that of the most parts where none do."""
    first = tried(numbers[0])
    if first.fits or len(numbers) == 1:
        return first
    best = tried(numbers[-1])
    low, high = 0, len(numbers) - 1  # the first of these does not fit, the last one may
    while best.fits and high - low > 1:
        middle = (low + high) // 2
        setting = tried(numbers[middle])
        if setting.fits:
            best, high = setting, middle
        else:
            low = middle
    return best
