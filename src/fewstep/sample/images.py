"""`fewstep.sample_images`: pictures of a student or a teacher, from a few prompts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from fewstep.backbones.conditioning_estimate import estimate_conditioning, may_be_long
from fewstep.data.pictures import open_picture
from fewstep.runtime.device import PRECISIONS, resolve_device
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.sample.asked import refuse_long_prompts
from fewstep.sample.pictures import Model, default_size, generate_pictures, open_model, refuse_cut_prompts


def sample_images(
    model: str | Path | Model,
    prompts: str | Sequence[str],
    images: Sequence[Image.Image | str | Path] = (),
    *,
    seed: int | Sequence[int] = 0,
    steps: int | None = None,
    guidance: float | None = None,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    dtype: str | None = None,
) -> list[Image.Image]:
    """One picture for each prompt: a student's at its own noise levels, a teacher's at the steps and guidance asked
    for. Each equals what the stock pipeline draws for that prompt and seed alone.

    Args:
        model: a student folder, a teacher's folder or hub id, "pocket"; or one that `fewstep.open_model` has loaded,
            for several calls.
        prompts: what to draw, or how to edit.
        images: reference pictures, the same for each prompt; with any, it is an edit.
        seed: the noise of the first picture, and each further prompt takes the next; or a seed for each prompt.
        steps: of a teacher; a student has its own.
        guidance: scale, of a teacher; a student needs none. 1 is no guidance.
        size: (height, width) in pixels; the model's own if not given, and for edits the shape of the last reference.
        device: auto, cpu or cuda; of a model that is loaded already, its own.
        dtype: bf16 or fp32; bf16 on a GPU and fp32 on a CPU if not given. Of a loaded model, its own.

    Returns:
        Pictures in the order of the prompts, RGB or, of models that draw transparency, RGBA.

    Raises:
        ModelError: no such model. LayoutError: a size that it does not take, too many references, a prompt that is too
            long, or seeds that do not fit the prompts. RecipeError: steps or guidance of a student. CaseError: a
            reference that cannot be read. EnvironmentRefused: no such device or dtype here. PictureError: latents or
            pixels that are not finite.
    """
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    refuse_long_prompts(asked)
    references = [_reference(image) for image in images]
    if not isinstance(model, Model) and any(map(may_be_long, asked)):  # before its weights are loaded
        own = size or default_size(model)
        refuse_cut_prompts(estimate_conditioning(str(model)), asked, references, own)
    opened = model if isinstance(model, Model) else open_on(model, device, dtype)
    usual = opened.guidance_for("edit" if references else "t2i")
    chosen = None if guidance is None else replace(usual, scale=guidance)
    return generate_pictures(opened, asked, references, seed, steps, chosen, size)


def _reference(image: Image.Image | str | Path) -> Image.Image:
    return image if isinstance(image, Image.Image) else open_picture(Path(image), f"reference {image}")


def open_on(source: str | Path, device: str, dtype: str | None = None) -> Model:
    """Opens a model on a device that is named in words; see `sample_images` for both.

    Raises:
        ModelError: no such model. EnvironmentRefused: no such device or dtype here.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise EnvironmentRefused(f"dtype is {' or '.join(PRECISIONS)}, not '{dtype}'")
    where = resolve_device(device, dtype or "fp32")
    default = torch.bfloat16 if where.type == "cuda" else torch.float32
    return open_model(source, dtype=PRECISIONS[dtype] if dtype else default, device=where)
