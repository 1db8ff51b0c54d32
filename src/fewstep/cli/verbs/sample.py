"""`fewstep sample`: pictures of a student or a teacher, written to files."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fewstep.runtime import durable
from fewstep.sample.asked import files_for, refuse_long_prompts, size_of
from fewstep.sample.images import sample_images


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
    wanted = None if size is None else size_of(size)
    refuse_long_prompts(prompts)
    files = files_for(to, len(prompts), seed)
    made = sample_images(source, prompts, images, seed=seed, steps=steps, guidance=guidance, size=wanted, device=device)
    for path, picture in zip(files, made, strict=True):
        _write(path, picture)
    return files


def _write(path: Path, picture: Image.Image) -> None:
    opaque = picture.getchannel("A").getextrema()[0] == 255 if picture.mode == "RGBA" else True
    shown = picture.convert("RGB") if opaque else picture
    durable.make_folder(path.parent)
    durable.replace_atomically(path, lambda beside: shown.save(beside, format="PNG"))
