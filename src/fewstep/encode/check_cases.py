"""Checks the cases against what a model accepts, by the model's files, before any weight is loaded."""

from collections.abc import Sequence

from fewstep.backbones.conditioning_estimate import estimate_conditioning
from fewstep.backbones.embedded import model_folder
from fewstep.backbones.families import family_of
from fewstep.backbones.pipeline_backbone import Parts
from fewstep.data.cases import Case
from fewstep.data.plan import SizesPlan
from fewstep.encode.long_text import refuse_long_text
from fewstep.runtime.errors import CaseError, RecipeError


def refuse_unfit_sizes(model: str, size: tuple[int, int], sizes: SizesPlan) -> None:
    """Refuses sizes of a recipe that its model cannot draw.

    Args:
        size: height and width in px of cases for which nothing else names one.

    Raises:
        ModelError: the model's folder is of an unknown family. RecipeError: a size off the family's grid.
    """
    family = family_of(model_folder(model))
    named = [("size", size), *((f"data.sizes.t2i.{n}.size", share.size) for n, share in enumerate(sizes.t2i))]
    for key, asked in named:
        if fault := _off_grid(asked, family.size_multiple):
            raise RecipeError(f"{key}: {family.family} {fault}")


def refuse_unfit_cases(model: str, cases: Sequence[Case], size: tuple[int, int], parts: Parts) -> None:
    """Refuses cases that the model does not accept.

    Args:
        size: height and width in px of cases that state none.
        parts: the parts of the model that will be loaded later; their files must be complete.

    Raises:
        ModelError: the model's folder lacks something of them, or is of an unknown family.
        CaseError: a case of a size off the family's grid, of too many references, or of more text than it takes.
    """
    folder = model_folder(model)
    family = family_of(folder)
    most = family.max_references_of(family.inspect(folder, parts))
    for case in cases:
        if fault := _off_grid(case.size(size), family.size_multiple):
            raise CaseError(f"{case.where}: {family.family} {fault}")
        if len(case.references) > most:
            raise CaseError(f"{case.where}: {_too_many(family.family, most, len(case.references))}")
    refuse_long_text(cases, estimate_conditioning(str(folder)), size)


def respelling_remark(model: str, cases: Sequence[Case]) -> str | None:
    """A line about prompts that the model's encoder is given in another spelling; None if all are read as they stand.

    Raises:
        ModelError: the model's folder is of an unknown family.
    """
    family = family_of(model_folder(model))
    changed = [case for case in cases if any(family.respelled(prompt) != prompt for prompt in case.prompts)]
    if not changed:
        return None
    return (
        f"{len(changed):,} of {len(cases):,} cases are read with typographic apostrophes: the pipeline of "
        f"{family.family} corrupts a prompt with two different words like it's (docs/families.md). The first is "
        f"{changed[0].where or changed[0].id}"
    )


def _off_grid(size: tuple[int, int], step: int) -> str | None:
    if all(side > 0 and side % step == 0 for side in size):
        return None
    near = [max(step, round(side / step) * step) for side in size]
    return (
        f"takes sides that are multiples of {step} px, not {size[0]} x {size[1]}; the nearest is {near[0]} x {near[1]}"
    )


def _too_many(family: str, most: int, count: int) -> str:
    if most == 0:
        return (
            f"an edit, but this {family} draws from text alone. Take a model that edits (it draws from text as well), "
            "or leave edits out"
        )
    return f"{family} takes at most {most} references, not {count}; leave some out"
