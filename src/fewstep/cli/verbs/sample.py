"""`fewstep sample`: pictures of a student or a teacher, written to files."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fewstep.data.pictures import MAX_ASPECT
from fewstep.runtime import durable
from fewstep.runtime.errors import LayoutError, RunError
from fewstep.sample.images import refuse_long_prompts, sample_images

MAX_SIDE = 4096  # px


def sample_to_files(
    source: str,
    prompts: Sequence[str],
    images: Sequence[Path],
    *,
    seed: int,
    steps: int | None,
    guidance: float | None,
    size: str | None,
    device: str,
    to: Path,
) -> list[Path]:
    """Draws one picture for each prompt, and returns where they were written.

    Raises:
        CaseError: a picture that cannot be read.
        LayoutError: a size that the model does not take.
        RunError: several pictures for one file name.
    """
    wanted = None if size is None else _size(size)
    refuse_long_prompts(prompts)
    files = _files(to, len(prompts), seed)
    made = sample_images(source, prompts, images, seed=seed, steps=steps, guidance=guidance, size=wanted, device=device)
    for path, picture in zip(files, made, strict=True):
        _write(path, picture)
    return files


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise LayoutError(f"--size reads HEIGHTxWIDTH in pixels, such as 1024x768, not '{text}'")
    height, width = int(match[1]), int(match[2])
    if max(height, width) > MAX_SIDE:
        raise LayoutError(f"--size {text} is over {MAX_SIDE} px a side")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise LayoutError(f"--size {text}: sides may differ {MAX_ASPECT}-fold at most")
    return height, width


def _files(to: Path, count: int, seed: int) -> list[Path]:
    if to.suffix.lower() == ".png":
        if count > 1:
            raise RunError(f"{count} pictures do not fit into {to}; give a folder as --out")
        return [to]
    if to.suffix:
        raise RunError(f"pictures are written as PNG, not as {to.suffix}; give a .png file or a folder as --out")
    return [to / f"{i:03d}-seed{seed + i}.png" for i in range(count)]


def _write(path: Path, picture: Image.Image) -> None:
    opaque = picture.getchannel("A").getextrema()[0] == 255 if picture.mode == "RGBA" else True
    shown = picture.convert("RGB") if opaque else picture
    durable.make_folder(path.parent)
    durable.replace_atomically(path, lambda beside: shown.save(beside, format="PNG"))
