"""Estimates how large a conditioning store will be, before anything is encoded. Without torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fewstep.backbones.conditioning_estimate import (
    ConditioningEstimate,
)
from fewstep.backbones.layout import TokenGrid
from fewstep.data.cases import Case
from fewstep.data.pictures import file_digest, upright_size
from fewstep.runtime.task import Task

TEXT_BYTES = 2  # the store keeps text in bf16
LATENT_BYTES = {"bf16": 2, "fp32": 4, "auto": 4}  # by the run's precision; auto: at most
SAME_SHAPE = 1.05  # ours: ratios of sides nearer than this are rounded to the same grid, or the next


@dataclass(frozen=True)
class StoreSize:
    """The size of a store.

    Args:
        conditionings: the number of prompts, negative ones too, each with its pictures.
        references: the number of sets of pictures. Each is stored once for all prompts with it.
    """

    conditionings: int
    references: int
    text_bytes: int
    reference_bytes: int

    @property
    def bytes(self) -> int:
        return self.text_bytes + self.reference_bytes


def kind_of(
    case: Case, outline: ConditioningEstimate, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[TokenGrid, ...]]:
    """What determines the case's layout: the target's size in px, and the token grids of its references."""
    target = case.size(size)
    pictures = (upright_size(path, case.where) for path in case.references)
    return target, tuple(outline.reference_grid(picture, target) for picture in pictures)


def shape_mismatch(cases: Iterable[Case], size: tuple[int, int]) -> str | None:
    """A message about edits without a size of their own whose last reference has another shape than `size`. None if
    there are none.

    Pipelines give an edit the shape of its last reference. So such edits would be trained at another shape than they
    are sampled at.
    """
    found = [case for case in cases if case.task == "edit" and case.height is None and _of_other_shape(case, size)]
    if not found:
        return None
    height, width = upright_size(found[0].references[-1], found[0].where)
    return (
        f"{len(found):,} edits have references of another shape than {size[0]} x {size[1]}, at which they are trained: "
        f"the first, {found[0].where}, is {height} x {width}. Samplers give an edit its reference's shape; state the "
        "cases' height and width to train it so"
    )


def _of_other_shape(case: Case, size: tuple[int, int]) -> bool:
    height, width = upright_size(case.references[-1], case.where)
    return abs(math.log((width * size[0]) / (height * size[1]))) > math.log(SAME_SHAPE)


def store_size(
    cases: Iterable[Case],
    outline: ConditioningEstimate,
    *,
    size: tuple[int, int],
    negatives: Mapping[Task, Sequence[str]],
    latent_bytes: int,
) -> StoreSize:
    """The size of the store that these cases need. What a store already holds is included.

    Args:
        latent_bytes: the bytes of one element as the VAE returns it, 2 in bf16 and 4 in fp32.

    Raises:
        CaseError: a picture that cannot be read.
    """
    texts: dict[tuple[object, ...], int] = {}
    latents: dict[tuple[object, ...], int] = {}
    for case in cases:
        target, grids = kind_of(case, outline, size)
        about = target, tuple(map(file_digest, case.references))
        if grids:
            latents[about] = sum(rows * columns for rows, columns in grids)
        for prompt in (*case.prompts, *negatives.get(case.task, ())):
            if (prompt, *about) not in texts:
                texts[prompt, *about] = outline.text_length(prompt, len(grids))
    return StoreSize(
        len(texts),
        len(latents),
        sum(texts.values()) * outline.text_width * TEXT_BYTES,
        sum(latents.values()) * outline.latent_width * latent_bytes,
    )
