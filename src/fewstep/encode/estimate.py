"""Estimates how large a conditioning store will be, before anything is encoded. Without torch."""

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
    return target, outline.reference_grids(list(pictures), target)


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
