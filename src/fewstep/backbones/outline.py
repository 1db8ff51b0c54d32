"""What can be said of a family's conditionings before any weight is loaded: from configs, and without torch.

An outline is an estimate, and says what it rests on; `QwenImage21.encode` is what really happens. Every family that
fewstep knows so far (Qwen-Image 2.1) has this one template and this one rule for references.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer

import fewstep
from fewstep.backbones.folder import read_json
from fewstep.errors import ModelError

Grid = tuple[int, int]  # rows, columns of latent tokens
PUBLISHED = (4096, 64)  # text channels, latent channels of Qwen/Qwen-Image-2.1
PIXELS_PER_TOKEN, STEP = 16, 32
CHARACTERS_PER_TOKEN = 4.3  # ours: English captions under Qwen's tokenizer
CHARACTERS_PER_TOKEN_DENSE = 1.5  # ours: Chinese, Japanese, Korean
TEXT = "<|im_start|>user\n{references}{prompt}<|im_end|>\n<|im_start|>assistant\n"  # what is kept of the template
REFERENCE = "<image{number}><|vision_start|><|vision_end|>"  # without its image slots
TEMPLATE_TOKENS, REFERENCE_TOKENS = 8, 6  # of the two under Qwen's tokenizer
FILES = ("transformer/config.json", "processor/tokenizer.json")


@dataclass(frozen=True)
class Outline:
    """text_width: channels of a text position. latent_width: channels of a reference's token. basis: what the numbers
    were taken from, in words."""

    text_width: int
    latent_width: int
    tokens: Callable[[str], int] | None
    basis: str

    def text_length(self, prompt: str, references: int) -> int:
        """Text positions of a prompt about so many pictures, the template's among them."""
        if self.tokens is None:
            return TEMPLATE_TOKENS + REFERENCE_TOKENS * references + _by_rule(prompt)
        pictures = " ".join(REFERENCE.format(number=n + 1) for n in range(references))
        return self.tokens(TEXT.format(references=pictures, prompt=prompt or " "))

    def reference_grid(self, picture: tuple[int, int], size: tuple[int, int]) -> Grid:
        """Latent tokens of a picture of (height, width) px about a target of `size`: the picture's shape at the
        target's area, in steps of 32 px."""
        ratio = picture[1] / picture[0]
        width = math.sqrt(round(math.sqrt(size[0] * size[1])) ** 2 * ratio)
        rows, columns = (round(side / STEP) * STEP // PIXELS_PER_TOKEN for side in (width / ratio, width))
        return rows, columns


def outline_of(model: str) -> Outline:
    """The outline of `pocket`, a folder, or a hub id. A hub id that is not on this machine is taken for the published
    model: nothing is fetched for an estimate.

    Raises:
        ModelError: a folder whose transformer/config.json cannot be read.
    """
    config, vocabulary = (_file(model, name) for name in FILES)
    if config is None and Path(model).is_dir():
        raise ModelError(f"{Path(model) / FILES[0]} is missing: the model folder is incomplete. Copy it again")
    text_width, latent_width = PUBLISHED
    if config is not None:
        stated = read_json(config)
        text_width = int(stated.get("context_in_dim", text_width))
        latent_width = int(stated.get("in_channels", latent_width))
    widths = "its config" if config is not None else "the widths of Qwen-Image-2.1 (the model is not on this machine)"
    counted = "its tokenizer" if vocabulary is not None else f"{CHARACTERS_PER_TOKEN} characters a token"
    return Outline(text_width, latent_width, _counter(vocabulary), f"{widths} and {counted}")


def _file(model: str, name: str) -> Path | None:
    folder = Path(fewstep.__file__).parent / "pocket" / "teacher" if model == "pocket" else Path(model).expanduser()
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        found = try_to_load_from_cache(model, name)
    except ValueError:  # no hub id either: loading the model will say so
        return None
    return Path(found) if isinstance(found, str) else None


def _counter(vocabulary: Path | None) -> Callable[[str], int] | None:
    if vocabulary is None:
        return None
    tokenizer = Tokenizer.from_file(str(vocabulary))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _by_rule(prompt: str) -> int:
    dense = sum(1 for character in prompt if "⺀" <= character <= "鿿" or "가" <= character <= "힣")
    return math.ceil(dense / CHARACTERS_PER_TOKEN_DENSE + (len(prompt) - dense) / CHARACTERS_PER_TOKEN)
