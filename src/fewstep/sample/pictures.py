"""From prompts to pictures, with any model: a student on its own grid, a teacher with any steps and guidance.

A picture depends on its prompt, references, seed, size and grid, and not on what else is in its batch. For that, only
samples of one layout and one text length share a batch: sums over padded keys are rounded otherwise. Latents are the
same to the last bit where a CPU rounds products of few rows as it does those of many. With AVX2 alone those of one to
three rows differ (2e-5 of a latent after 4 steps), and time embeddings have a row a sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import (
    Conditioning,
    stack,
)
from fewstep.backbones.conditioning_estimate import ConditioningEstimate, estimate_conditioning
from fewstep.backbones.embedded import POCKET_GUIDANCE, TRAINED_SIZES, is_embedded, model_folder
from fewstep.backbones.families import load_backbone
from fewstep.backbones.finite import refuse_not_finite
from fewstep.backbones.folder import sample_sigmas
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import (
    LayoutError,
    ModelError,
    PictureError,
)
from fewstep.runtime.task import TASKS, Task
from fewstep.sample.asked import refuse_seeds
from fewstep.sample.sampler import pipeline_noise, sample
from fewstep.sample.student_options import refuse_student_options

BATCH = 64  # pictures sampled together
MEGAPIXEL = 1024 * 1024
DEFAULT_SIZE = (1024, 1024)  # of the Qwen-Image families


@dataclass(frozen=True)
class Model:
    """A model that makes pictures.

    own_steps: the number of steps of a student, whose folder contains its noise levels; None for a teacher. guidance:
    the family's; by_task: that of a model with its own. size: the default height and width in px.
    """

    backbone: Backbone
    own_steps: int | None
    guidance: Guidance
    size: tuple[int, int]
    by_task: Mapping[Task, Guidance] = field(default_factory=dict)

    @property
    def is_student(self) -> bool:
        return self.own_steps is not None

    def guidance_for(self, task: Task) -> Guidance:
        """What it is sampled with where nobody says otherwise."""
        return self.by_task.get(task, self.guidance)

    def default_size(self, references: Sequence[Image.Image] = ()) -> tuple[int, int]:
        """The default height and width. An edit gets the shape of its references at the model's default area."""
        return self.backbone.edit_size(references, self.size[0] * self.size[1]) if references else self.size

    def refuse_long_text(
        self, prompts: Sequence[str], references: Sequence[Image.Image] = (), size: tuple[int, int] | None = None
    ) -> None:
        """
        Args:
            size: height and width in px; the default if not given.

        Raises:
            LayoutError: a prompt that the family would cut without a word, or has no positions for.
        """
        refuse_cut_prompts(self._estimate, prompts, references, size or self.default_size(references))

    @cached_property
    def _estimate(self) -> ConditioningEstimate:
        return estimate_conditioning(self.backbone.source)

    def sampling(
        self, steps: int | None = None, guidance: Guidance | None = None, size: tuple[int, int] | None = None
    ) -> tuple[SigmaGrid, Guidance]:
        """The grid and the guidance of a call with these options; None means the default.

        Raises:
            RecipeError: a student with another number of steps than its own, or with guidance.
        """
        target = self.backbone.layout_grid(size or self.size)
        own = self.own_steps or self.backbone.default_steps
        if self.is_student:
            scale = None if guidance is None or not guidance.active else guidance.scale
            refuse_student_options(tuple(self.backbone.sampling_grid(own, target)), steps, scale)
        return self.backbone.sampling_grid(steps or own, target), guidance or self.guidance


def open_model(source: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Model:
    """Opens a student folder, a teacher's folder or hub id, or an embedded model by its name. A folder that contains
    noise levels is a student.

    Raises:
        ModelError: not found, incomplete, or of an unknown family.
    """
    folder = model_folder(source)
    sigmas = sample_sigmas(folder)
    backbone = load_backbone(source, dtype=dtype, device=device)
    guidance = backbone.default_guidance if sigmas is None else NO_GUIDANCE
    own_steps = None if sigmas is None else len(sigmas)
    by_task = POCKET_GUIDANCE if is_embedded(source) else {task: backbone.guidance_of(task) for task in TASKS}
    by_task = by_task if sigmas is None else {}
    return Model(backbone, own_steps, guidance, default_size(source), by_task)


def load_student(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Model:
    """Opens a student folder.

    Raises:
        ModelError: the folder contains no `sample_sigmas`.
    """
    model = open_model(folder, dtype=dtype, device=device)
    if not model.is_student:
        raise ModelError(f"{folder} carries no sample_sigmas: it is a teacher, not a student that fewstep exported")
    return model


def generate_pictures(
    model: Model,
    prompts: Sequence[str],
    images: Sequence[Image.Image] = (),
    seed: int | Sequence[int] = 0,
    steps: int | None = None,
    guidance: Guidance | None = None,
    size: tuple[int, int] | None = None,
) -> list[Image.Image]:
    """One picture for each prompt, all with the same reference images. Without images it is text to image.

    Picture i has seed + i, or seed[i] of a list. It equals what the stock pipeline makes for that prompt alone with
    `generator=torch.Generator().manual_seed(seed + i)`, the same size and, for edits, `output_resolution` = the
    square root of the area. Without a size, an edit gets the shape of its last reference at the model's default area.

    Raises:
        LayoutError: a size that is not on the model's grid, too many references, a prompt that is longer than the
            model reads, or another number of seeds than of prompts.
        RecipeError: a student with another number of steps than its own, or with guidance.
        PictureError: latents or pixels that are not finite.
    """
    seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
    if len(seeds) != len(prompts):
        raise LayoutError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed, or one for each prompt")
    refuse_seeds(seeds)
    if not prompts:
        return []
    size = size or model.default_size(images)
    model.refuse_long_text(prompts, images, size)
    own = None if model.is_student else model.guidance_for("edit" if images else "t2i")
    grid, chosen = model.sampling(steps, guidance or own, size)
    backbone, references = model.backbone, list(images) or None
    conds = backbone.encode(prompts, references, size)
    negatives = backbone.encode([chosen.negative], references, size) * len(conds) if chosen.active else None
    return sample_pictures(backbone, backbone.transformer, conds, seeds, grid, chosen, negatives)


def sample_pictures(
    backbone: Backbone,
    transformer: nn.Module,
    conds: Sequence[Conditioning],
    seeds: Sequence[int],
    grid: SigmaGrid,
    guidance: Guidance = NO_GUIDANCE,
    negatives: Sequence[Conditioning] | None = None,
    batch: int = BATCH,
) -> list[Image.Image]:
    """One picture for each conditioning (batch of 1) and seed, in order. Layouts may differ; batches are made here.

    Raises:
        PictureError: latents or pixels that are not finite.
    """
    found: dict[int, Image.Image] = {}
    for members, x0_BND in sample_latents(backbone, transformer, conds, seeds, grid, guidance, negatives, batch):
        found |= dict(zip(members, decode_chunked(backbone, x0_BND, conds[members[0]].layout.target), strict=True))
    return [found[i] for i in range(len(conds))]


def decode_chunked(backbone: Backbone, x0_BND: Tensor, target: TokenGrid) -> list[Image.Image]:
    """Pictures of a batch of latents, decoded a megapixel at a time. For a megapixel a VAE's convolutions need about a
    gigabyte, so a batch that fits the transformer may be too large for the VAE.

    Raises:
        PictureError: latents or pixels that are not finite.
    """
    refuse_not_finite(x0_BND, "latents")
    at_once = max(1, MEGAPIXEL // (target[0] * target[1] * backbone.pixels_per_token**2))
    return [picture for part in x0_BND.split(at_once) for picture in backbone.decode(part, target)]


def decode_finite(backbone: Backbone, x0_BND: Tensor, target: TokenGrid) -> list[Image.Image | None]:
    """The same, with None where a picture's latents or pixels are not finite."""

    try:
        return list(decode_chunked(backbone, x0_BND, target))
    except PictureError:
        alone = [decode_finite(backbone, x0_1ND, target) for x0_1ND in x0_BND.split(1)] if len(x0_BND) > 1 else []
        return [picture for (picture,) in alone] or [None]


def sample_latents(
    backbone: Backbone,
    transformer: nn.Module,
    conds: Sequence[Conditioning],
    seeds: Sequence[int],
    grid: SigmaGrid,
    guidance: Guidance = NO_GUIDANCE,
    negatives: Sequence[Conditioning] | None = None,
    batch: int = BATCH,
) -> Iterator[tuple[list[int], Tensor]]:
    """The clean latents that `sample_pictures` decodes, batch by batch: the indices of its samples, and x0_BND."""
    assert len(conds) == len(seeds), (len(conds), len(seeds))
    for part in compatible_batches(conds, negatives, batch):
        cond = stack([conds[i] for i in part]).to(backbone.device)
        negative = stack([negatives[i] for i in part]).to(backbone.device) if negatives else None
        noise_BND = pipeline_noise(backbone, cond, [seeds[i] for i in part])
        yield part, sample(backbone, transformer, cond, noise_BND, grid, guidance, negative)


def compatible_batches(
    conds: Sequence[Conditioning], negatives: Sequence[Conditioning] | None, batch: int = BATCH
) -> list[list[int]]:
    """Indices of samples that may share a batch: of one layout, and of one text length on both branches."""
    together: dict[tuple[Layout, int, int], list[int]] = {}
    for i, cond in enumerate(conds):
        unconditional = negatives[i].text_BLC.shape[1] if negatives else 0
        together.setdefault((cond.layout, cond.text_BLC.shape[1], unconditional), []).append(i)
    return [members[at : at + batch] for members in together.values() for at in range(0, len(members), batch)]


def refuse_cut_prompts(
    estimate: ConditioningEstimate, prompts: Sequence[str], references: Sequence[Image.Image], size: tuple[int, int]
) -> None:
    """`Model.refuse_long_text`, for a model that is not loaded yet."""
    grids = estimate.reference_grids([(picture.height, picture.width) for picture in references], size)
    for prompt in prompts:
        if fault := estimate.long_text(prompt, size, grids):
            raise LayoutError(f"{fault}: {prompt[:60]}…")


def default_size(source: str | Path) -> tuple[int, int]:
    """The default height and width of a model that is not loaded yet.

    Raises:
        ModelError: as `open_model`.
    """
    return TRAINED_SIZES[str(source)][0] if is_embedded(source) else trained_size(model_folder(source))


def trained_size(folder: Path) -> tuple[int, int]:
    """The size (height, width) in the recipe of a student folder."""
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        return DEFAULT_SIZE
    try:
        content: Any = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        height, width = content["size"]
        return int(height), int(width)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{recipe} does not say the size as [height, width] ({error}); export the student again"
        ) from error
