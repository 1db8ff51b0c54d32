"""The shapes of a recipe's batches: from its cases if they are here, or else assumed, with a note. Without torch."""

import glob
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.backbones.conditioning_estimate import ConditioningEstimate, estimate_conditioning
from fewstep.data.case_sources import names_case_source
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import (
    used_tasks,
)
from fewstep.encode.estimate import (
    LATENT_BYTES,
    StoreSize,
    kind_of,
    store_size,
)
from fewstep.encode.layouts import count_layouts
from fewstep.encode.long_text import refuse_long_text
from fewstep.flow.guidance import Guidance
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.composition import recipe_composition
from fewstep.run.idle_teachers import refuse_idle_teachers
from fewstep.run.recipe import Recipe
from fewstep.runtime.task import Task

DEFAULT_TEXT = 256  # positions; ours: a long caption


@dataclass(frozen=True)
class BatchShapes:
    """The shapes of a recipe's batches.

    Args:
        by_task: for each task, the longest sequence of its cases, which decides the memory.
        usual: for each task, that of the length nearest to the mean of its cases, which decides the work.
        notes: what was assumed.
        told: how many layouts the cases of a task have, where there are several; and sizes that no case is trained at.
        cases: all that may come, each with its size; empty if none was read.
    """

    by_task: tuple[BatchShape, ...]
    usual: tuple[BatchShape, ...]
    notes: tuple[str, ...]
    told: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()


def batch_shapes(recipe: Recipe, place: Path) -> BatchShapes:
    """The shapes of a recipe's batches. place: the folder of generated and unpacked cases, now or later.

    Raises:
        RecipeError: a teacher's categories match no case.
        CaseError: cases are here and cannot be read, or their text is longer than the model reads.
        LayoutError: a size is not on the model's grid.
    """
    conditioning_estimate, tasks = estimate_conditioning(recipe.model), used_tasks(recipe.mixture)
    missing = [source for task in tasks for source in _missing(recipe, task)]
    if missing:
        assumed = {task: _assumed(recipe, task, conditioning_estimate) for task in tasks}
        by_task = tuple(max(shapes, key=lambda shape: shape.tokens) for shapes in assumed.values())
        note = (
            f"{', '.join(missing)} not found: every prompt is taken for {by_task[0].text} text positions"
            + (", every edit for one reference of the target's size" if "edit" in tasks else "")
            + "; the store's size is told once the cases are there"
        )
        return BatchShapes(by_task, tuple(map(_usual, assumed.values())), (note,))
    remarks: list[str] = []
    composition = recipe_composition(recipe, place / "cases", conditioning_estimate, remarks.append)
    refuse_idle_teachers(recipe.teachers, recipe.student.steps, composition)
    cases = tuple(composition.cases())
    refuse_long_text(cases, conditioning_estimate, recipe.size)
    kinds = {task: shapes_of(recipe, task, composition, conditioning_estimate) for task in tasks}
    longest = tuple(max(shapes, key=lambda shape: shape.tokens) for shapes in kinds.values())

    def kind(case: Case) -> Hashable:
        return kind_of(case, conditioning_estimate, recipe.size)

    layouts = [count_layouts(composition, task, kind, recipe.run.batch).words() for task in tasks]
    told = (*(words for words in layouts if words), *remarks)
    return BatchShapes(longest, tuple(map(_usual, kinds.values())), (), told, cases)


def store_of(recipe: Recipe, shapes: BatchShapes, default: Guidance) -> StoreSize | None:
    """The size of the conditioning store; None if no case was read.

    Args:
        recipe: in the precision that it will run in.
        default: the guidance of the model's family.

    Raises:
        CaseError: a picture that cannot be read.
    """
    if not shapes.cases:
        return None
    return store_size(
        shapes.cases,
        estimate_conditioning(recipe.model),
        size=recipe.size,
        negatives=recipe.negatives(used_tasks(recipe.mixture), default),
        latent_bytes=LATENT_BYTES[recipe.run.precision],
    )


def _missing(recipe: Recipe, task: Task) -> list[str]:
    named = [source.source for source in recipe.data.sources(task)]
    return [name for name in named if not names_case_source(name) and not Path(name).exists() and not glob.glob(name)]


def _assumed(recipe: Recipe, task: Task, conditioning_estimate: ConditioningEstimate) -> Counter[BatchShape]:
    """The shapes of cases that are not there, in proportion."""
    references = (conditioning_estimate.reference_grid(recipe.size, recipe.size),) if task == "edit" else ()
    text = conditioning_estimate.text_length("x" * int(DEFAULT_TEXT * 4.3), len(references))
    drawn = {share.size: share.weight for share in recipe.data.sizes.t2i} if task == "t2i" else {}
    return Counter(
        {
            BatchShape(task, _grid(size), text, conditioning_estimate.text_width, references): weight
            for size, weight in (drawn or {recipe.size: 1}).items()
        }
    )


def _usual(shapes: Counter[BatchShape]) -> BatchShape:
    """The shape whose number of tokens is nearest to the mean; where several are, the most frequent."""
    mean = sum(shape.tokens * count for shape, count in shapes.items()) / sum(shapes.values())
    return min(shapes, key=lambda shape: (abs(shape.tokens - mean), -shapes[shape]))


def shapes_of(
    recipe: Recipe, task: Task, composition: Composition, conditioning_estimate: ConditioningEstimate
) -> Counter[BatchShape]:
    """The shapes of a task's batches, by the number of their cases."""
    cases = [case for case in composition.cases() if case.task == task]
    by_kind: dict[tuple[tuple[int, int], tuple[tuple[int, int], ...]], list[Case]] = {}
    for case in cases:
        by_kind.setdefault(kind_of(case, conditioning_estimate, recipe.size), []).append(case)
    return Counter({_batch_shape(task, kind, held, conditioning_estimate): len(held) for kind, held in by_kind.items()})


def _batch_shape(
    task: Task,
    kind: tuple[tuple[int, int], tuple[tuple[int, int], ...]],
    cases: Sequence[Case],
    conditioning_estimate: ConditioningEstimate,
) -> BatchShape:
    target, grids = kind
    lengths = {conditioning_estimate.text_length(prompt, len(grids)) for case in cases for prompt in case.prompts}
    return BatchShape(
        task, _grid(target), max(lengths), conditioning_estimate.text_width, grids, padded=len(lengths) > 1
    )


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    """Latent tokens of a size in px; all families have tiles of 16 px."""
    return size[0] // 16, size[1] // 16
