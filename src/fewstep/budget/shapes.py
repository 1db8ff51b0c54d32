"""What a recipe's batches are told, in numbers: from its cases where they are here, else assumed and said so."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.backbones.outline import Outline, outline_of
from fewstep.budget.rehearsal import Told
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import Task, used_tasks
from fewstep.data.sources import composed
from fewstep.encode.estimate import StoreSize, kind_of, store_size
from fewstep.flow.guidance import Guidance
from fewstep.recipe import Recipe

USUAL_TEXT = 256  # positions; ours: a long caption
LATENT_BYTES = {"bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Shapes:
    """told: of each task, the longest sequence that its cases make. store: None where no case was read. notes: what was
    assumed."""

    told: tuple[Told, ...]
    store: StoreSize | None
    notes: tuple[str, ...]


def shapes_of(recipe: Recipe, place: Path, default: Guidance) -> Shapes:
    """`place`: where drawn and unpacked cases are, or will be.

    Raises:
        CaseError: cases that are here and cannot be read. LayoutError: a size off the model's grid.
    """
    outline, tasks = outline_of(recipe.model), used_tasks(recipe.mixture)
    missing = [source for task in tasks for source in _missing(recipe, task)]
    if missing:
        told = tuple(_assumed(recipe, task, outline) for task in tasks)
        note = (
            f"{', '.join(missing)} not found: every prompt is taken for {told[0].text} text positions"
            + (", every edit for one reference of the target's size" if "edit" in tasks else "")
            + "; the store's size is told once the cases are there"
        )
        return Shapes(told, None, (note,))
    composition = composed(recipe.data, recipe.mixture, place / "cases")
    store = store_size(
        composition.cases(),
        outline,
        size=recipe.size,
        negatives=recipe.negatives(composition.tasks, default),
        latent_bytes=LATENT_BYTES[recipe.run.precision],
    )
    return Shapes(tuple(_longest(recipe, task, composition, outline) for task in tasks), store, ())


def _missing(recipe: Recipe, task: Task) -> list[str]:
    named = [source.source for source in recipe.data.sources(task)]
    return [
        name for name in named if not name.startswith("pocket:") and not Path(name).exists() and not glob.glob(name)
    ]


def _assumed(recipe: Recipe, task: Task, outline: Outline) -> Told:
    references = (outline.reference_grid(recipe.size, recipe.size),) if task == "edit" else ()
    text = outline.text_length("x" * int(USUAL_TEXT * 4.3), len(references))
    return Told(task, _grid(recipe.size), text, outline.text_width, references)


def _longest(recipe: Recipe, task: Task, composition: Composition, outline: Outline) -> Told:
    cases = [case for case in composition.cases() if case.task == task]
    by_kind: dict[tuple[tuple[int, int], tuple[tuple[int, int], ...]], list[Case]] = {}
    for case in cases:
        by_kind.setdefault(kind_of(case, outline, recipe.size), []).append(case)
    every = [_told(task, kind, held, outline) for kind, held in by_kind.items()]
    return max(every, key=lambda told: told.tokens)


def _told(
    task: Task, kind: tuple[tuple[int, int], tuple[tuple[int, int], ...]], cases: Sequence[Case], outline: Outline
) -> Told:
    target, grids = kind
    lengths = {outline.text_length(case.prompt, len(grids)) for case in cases}
    return Told(task, _grid(target), max(lengths), outline.text_width, grids, padded=len(lengths) > 1)


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    """Latent tokens of a size in px; all families have tiles of 16 px."""
    return size[0] // 16, size[1] // 16
