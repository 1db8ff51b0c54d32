"""What is asked of `fewstep sample`, checked before torch is imported: prompts, references, seeds, size, files."""

import re
from collections.abc import Sequence
from pathlib import Path

from fewstep.data.pictures import MAX_ASPECT, open_picture
from fewstep.runtime.errors import LayoutError, RunError

MAX_PROMPT = 10_000  # characters
MAX_SIDE = 4096  # px
MAX_SEED = 2**63


def refuse_long_prompts(prompts: Sequence[str]) -> None:
    """
    Raises:
        LayoutError: a prompt is longer than MAX_PROMPT, or no text.
    """
    for prompt in prompts:
        if prompt != prompt.encode("utf-8", "replace").decode():
            raise LayoutError(f"the prompt {prompt!a:.60} is no text: it holds half of a character; give it as UTF-8")
    long = next((p for p in prompts if len(p) > MAX_PROMPT), None)
    if long is not None:
        raise LayoutError(f"a prompt has at most {MAX_PROMPT:,} characters; this one has {len(long):,}: {long[:60]}…")


def refuse_seeds(seeds: Sequence[int]) -> None:
    """
    Raises:
        LayoutError: a seed that torch's generators do not take.
    """
    if wrong := [each for each in seeds if not 0 <= each < MAX_SEED]:
        raise LayoutError(f"a seed is a whole number from 0 to 2**63 - 1, not {wrong[0]}")


def size_of(text: str) -> tuple[int, int]:
    """(height, width) of HEIGHTxWIDTH.

    Raises:
        LayoutError: it is none, or far from any picture.
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise LayoutError(f"--size reads HEIGHTxWIDTH in pixels, such as 1024x768, not '{text}'")
    height, width = int(match[1]), int(match[2])
    if max(height, width) > MAX_SIDE:
        raise LayoutError(f"--size {text} is over {MAX_SIDE} px a side")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise LayoutError(f"--size {text}: sides may differ {MAX_ASPECT}-fold at most")
    return height, width


def files_for(to: Path, count: int, seed: int) -> list[Path]:
    """Where `count` pictures are written.

    Raises:
        RunError: several pictures for one file name, or another format than PNG.
    """
    if to.suffix.lower() == ".png":
        if count > 1:
            raise RunError(f"{count} pictures do not fit into {to}; give a folder as --out")
        return [to]
    if to.suffix:
        raise RunError(f"pictures are written as PNG, not as {to.suffix}; give a .png file or a folder as --out")
    return [to / f"{i:03d}-seed{seed + i}.png" for i in range(count)]


def refuse_call(prompts: Sequence[str], images: Sequence[Path], seed: int, size: str | None, to: Path) -> None:
    """All of the above.

    Raises:
        LayoutError, RunError: as said there. CaseError: a reference that cannot be read.
    """
    if size is not None:
        size_of(size)
    refuse_long_prompts(prompts)
    refuse_seeds([seed, seed + len(prompts) - 1])
    files_for(to, len(prompts), seed)
    for image in images:
        open_picture(image, f"reference {image}")
