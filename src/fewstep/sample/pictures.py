"""From prompts to pictures, with any model: a student at its own grid, a teacher at the steps and guidance asked for.

A picture depends on its prompt, references, seed, size and grid - not on what else is drawn beside it: only samples of
one layout and one text length share a batch, because padding would shift the target's rotary position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from fewstep.backbones.families import (
    POCKET,
    load_backbone,
    pocket_folder,
)
from fewstep.backbones.folder import folder_of, sample_sigmas
from fewstep.backbones.layout import Layout, TokenGrid
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import (
    LayoutError,
    ModelError,
    RecipeError,
)
from fewstep.sample.sampler import sample, seeded_noise

BATCH = 64  # pictures sampled together
MEGAPIXEL = 1024 * 1024
DEFAULT_SIZE = (1024, 1024)  # of the Qwen-Image families
POCKET_SIZE = (64, 64)


@dataclass(frozen=True)
class Model:
    """A model that draws. own_steps: a student's, whose noise levels its folder carries; None for a teacher. size:
    height and width in pixels where none is asked for."""

    backbone: Backbone
    own_steps: int | None
    guidance: Guidance
    size: tuple[int, int]

    @property
    def is_student(self) -> bool:
        return self.own_steps is not None

    def default_size(self, references: Sequence[Image.Image] = ()) -> tuple[int, int]:
        """Height and width where none is asked for: of an edit, as its references have it at the model's own area."""
        return self.backbone.edit_size(references, self.size[0] * self.size[1]) if references else self.size

    def sampling(
        self, steps: int | None = None, guidance: Guidance | None = None, size: tuple[int, int] | None = None
    ) -> tuple[SigmaGrid, Guidance]:
        """The grid and the guidance of a call that asks for these, or for nothing.

        Raises:
            RecipeError: a student at other steps than its own, or guided.
        """
        target = self.backbone.layout_grid(size or self.size)
        own = self.own_steps or self.backbone.default_steps
        if self.is_student and steps not in (None, own):
            raise RecipeError(
                f"this student samples in {own} steps, at {list(self.backbone.sampling_grid(own, target))}; it was "
                f"not trained at {steps}. Leave --steps out"
            )
        if self.is_student and guidance is not None and guidance.active:
            raise RecipeError(
                f"this student draws without guidance, which its teachers' guidance is distilled into; scale "
                f"{guidance.scale:g} would guide it twice. Leave --guidance out"
            )
        return self.backbone.sampling_grid(steps or own, target), guidance or self.guidance


def open_model(source: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Model:
    """A student folder, a teacher's folder or hub id, or "pocket". A folder that carries its noise
    levels is a student.

    Raises:
        ModelError: not found, incomplete, or of an unknown family.
    """
    folder = folder_of(pocket_folder() if source == POCKET else source)
    sigmas = sample_sigmas(folder)
    backbone = load_backbone(source, dtype=dtype, device=device)
    guidance = backbone.default_guidance if sigmas is None else NO_GUIDANCE
    own_steps = None if sigmas is None else len(sigmas)
    return Model(backbone, own_steps, guidance, POCKET_SIZE if source == POCKET else trained_size(folder))


def load_student(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Model:
    """A student folder, and nothing else.

    Raises:
        ModelError: the folder carries no `sample_sigmas`.
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
    """One picture for each prompt, all with the same reference images (none: text to image).

    Picture i has seed + i, or seed[i] of a list; it equals what the stock pipeline draws for that prompt alone with
    `generator=torch.Generator().manual_seed(seed + i)`, the same size and, for edits, `output_resolution` = the
    square root of the area. Without a size, an edit has its last reference's shape at the model's own area.

    Raises:
        LayoutError: a size off the model's grid, too many references, or seeds that do not fit the prompts.
    """
    seeds = [seed + i for i in range(len(prompts))] if isinstance(seed, int) else list(seed)
    if len(seeds) != len(prompts):
        raise LayoutError(f"{len(prompts)} prompts but {len(seeds)} seeds; give one seed, or one for each prompt")
    if not prompts:
        return []
    size = size or model.default_size(images)
    grid, chosen = model.sampling(steps, guidance, size)
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
    """One picture for each single conditioning and seed, in order. Any mixture of layouts; batches are made here."""
    found: dict[int, Image.Image] = {}
    for members, x0_BND in sample_latents(backbone, transformer, conds, seeds, grid, guidance, negatives, batch):
        found |= dict(zip(members, decode_chunked(backbone, x0_BND, conds[members[0]].layout.target), strict=True))
    return [found[i] for i in range(len(conds))]


def decode_chunked(backbone: Backbone, x0_BND: Tensor, target: TokenGrid) -> list[Image.Image]:
    """Pictures of a batch of latents, a megapixel at a time: a VAE's convolutions take a gigabyte for it, and a
    transformer's batch says nothing of what they can hold."""
    at_once = max(1, MEGAPIXEL // (target[0] * target[1] * backbone.pixels_per_token**2))
    return [picture for part in x0_BND.split(at_once) for picture in backbone.decode(part, target)]


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
    """The clean latents that `draw` decodes, batch by batch: the members' places, and x0_BND."""
    assert len(conds) == len(seeds), (len(conds), len(seeds))
    for part in compatible_batches(conds, negatives, batch):
        layout, cond = conds[part[0]].layout, stack([conds[i] for i in part]).to(backbone.device)
        negative = stack([negatives[i] for i in part]).to(backbone.device) if negatives else None
        noise_BND = seeded_noise(
            [seeds[i] for i in part], layout.target, backbone.latent_channels, cond.text_BLC.dtype, backbone.noise_patch
        ).to(backbone.device)
        yield part, sample(backbone, transformer, cond, noise_BND, grid, guidance, negative)


def compatible_batches(
    conds: Sequence[Conditioning], negatives: Sequence[Conditioning] | None, batch: int = BATCH
) -> list[list[int]]:
    """Places of samples that may share a batch: of one layout, and of one text length on either branch."""
    together: dict[tuple[Layout, int, int], list[int]] = {}
    for i, cond in enumerate(conds):
        unconditional = negatives[i].text_BLC.shape[1] if negatives else 0
        together.setdefault((cond.layout, cond.text_BLC.shape[1], unconditional), []).append(i)
    return [members[at : at + batch] for members in together.values() for at in range(0, len(members), batch)]


def trained_size(folder: Path) -> tuple[int, int]:
    """The size in the recipe that a student folder carries."""
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
