"""What may be asked of any sampler, checked before torch is imported: prompts, seeds, sizes."""

import re
from collections.abc import Sequence

from fewstep.data.pictures import MAX_ASPECT
from fewstep.runtime.errors import LayoutError

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
    if not height or not width:
        raise LayoutError(f"--size {text} has no pixels; give HEIGHTxWIDTH, such as 1024x768")
    if max(height, width) > MAX_SIDE:
        raise LayoutError(f"--size {text} is over {MAX_SIDE} px a side")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise LayoutError(f"--size {text}: sides may differ {MAX_ASPECT}-fold at most")
    return height, width
