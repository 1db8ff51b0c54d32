"""Pictures with what each of them costs: drawn one at a time, so that its seconds are its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from fewstep.backbones.conditioning import Conditioning, stack
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.sample.asked import refuse_seeds
from fewstep.sample.call_counter import CallCounter, device_time_s
from fewstep.sample.pictures import Model, decode_chunked
from fewstep.sample.sampler import pipeline_noise, sample


@dataclass(frozen=True)
class MeasuredPicture:
    """A picture. size: (height, width) in px. nfe: network evaluations, counted. seconds: of encoding, denoising and
    decoding. The first picture of a model may include what its device does once."""

    picture: Image.Image
    seed: int
    size: tuple[int, int]
    steps: int
    guidance: float
    nfe: int
    seconds: float


def draw_measured(
    model: Model,
    prompt: str,
    references: Sequence[Image.Image],
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    guidance: float | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[MeasuredPicture]:
    """One picture for each seed, each the one of `generate_pictures`. The prompt is encoded once, and its seconds are
    part of each picture's.

    Raises:
        LayoutError, RecipeError, PictureError: as `generate_pictures`.
    """
    size = size or model.default_size(references)
    usual = model.guidance_for("edit" if references else "t2i")
    grid, used = model.sampling(steps, usual if guidance is None else replace(usual, scale=guidance), size)
    yield from draw_on_grid(model, prompt, references, seeds, grid, used, size)


def draw_on_grid(
    model: Model,
    prompt: str,
    references: Sequence[Image.Image],
    seeds: Sequence[int],
    grid: SigmaGrid,
    guidance: Guidance,
    size: tuple[int, int],
) -> Iterator[MeasuredPicture]:
    """The same at any noise levels, as of a student that a run holds and no folder does.

    Raises:
        LayoutError, PictureError: as `generate_pictures`.
    """
    refuse_seeds(seeds)
    model.refuse_long_text([prompt], references, size)
    device = model.backbone.device
    begun_s = device_time_s(device)
    cond, negative = _encoded(model, prompt, references, size, guidance)
    encoded_s = device_time_s(device) - begun_s
    scale = guidance.scale if guidance.active else 1.0
    for seed in seeds:
        begun_s = device_time_s(device)
        picture, nfe = _drawn(model, cond, negative, seed, grid, guidance)
        seconds = encoded_s + device_time_s(device) - begun_s
        yield MeasuredPicture(picture, seed, size, len(grid), scale, nfe, seconds)


def _encoded(
    model: Model, prompt: str, references: Sequence[Image.Image], size: tuple[int, int], guidance: Guidance
) -> tuple[Conditioning, Conditioning | None]:
    pictures = list(references) or None
    with torch.no_grad():
        (cond,) = model.backbone.encode([prompt], pictures, size)
        if not guidance.active:
            return cond, None
        (negative,) = model.backbone.encode([guidance.negative], pictures, size)
        return cond, negative


def _drawn(
    model: Model, cond: Conditioning, negative: Conditioning | None, seed: int, grid: SigmaGrid, guidance: Guidance
) -> tuple[Image.Image, int]:
    backbone = model.backbone
    on_device = stack([cond]).to(backbone.device)
    unconditional = None if negative is None else stack([negative]).to(backbone.device)
    noise_1ND = pipeline_noise(backbone, on_device, [seed])
    with torch.no_grad(), CallCounter(backbone).counting(backbone.transformer) as counted:
        x0_1ND = sample(counted, backbone.transformer, on_device, noise_1ND, grid, guidance, unconditional)
        (picture,) = decode_chunked(backbone, x0_1ND, cond.layout.target)
    return picture, counted.calls["evaluation"]
