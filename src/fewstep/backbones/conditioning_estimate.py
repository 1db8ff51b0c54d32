"""Estimates the sizes of a family's conditionings from configs, before any weight is loaded and without torch.

An estimate says what it is based on (`basis`). The real sizes are those that the family's `encode` returns. Each family
has its own rule for the length of a text and for the size of a reference.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer

from fewstep.backbones.edit_sizes import (
    at_area,
    flux3_grid,
    flux3_size,
    klein_fault,
    klein_size,
    longcat_size,
    on_own_grid,
    reference_resolution,
)
from fewstep.backbones.embedded import embedded_folder, is_embedded
from fewstep.backbones.folder import MODULAR_INDEX, read_json
from fewstep.backbones.layout import TokenGrid
from fewstep.runtime.errors import ModelError

PUBLISHED = (4096, 64)  # text channels, latent channels of Qwen/Qwen-Image-2.1
PUBLISHED_20B, PUBLISHED_Z, PUBLISHED_LONGCAT = (3584, 64), (2560, 64), (3584, 64)
# Of FLUX.2 klein of 4 B and 9 B and of FLUX 3 Image Klein, whose texts are stored as the transformer projects them.
PUBLISHED_KLEIN, PUBLISHED_KLEIN_9B, PUBLISHED_FLUX3 = (3072, 128), (4096, 128), (3072, 128)
PIXELS_PER_TOKEN = 16
CHARACTERS_PER_TOKEN = 4.3  # ours: English captions under Qwen's tokenizer
CHARACTERS_PER_TOKEN_DENSE = 1.5  # ours: Chinese, Japanese, Korean
TEXT = "<|im_start|>user\n{references}{prompt}<|im_end|>\n<|im_start|>assistant\n"  # what is kept of the template
REFERENCE = "<image{number}><|vision_start|><|vision_end|>"  # without its image slots
TEMPLATE_TOKENS, REFERENCE_TOKENS = 8, 6  # of the two under Qwen's tokenizer
TAIL = "<|im_end|>\n<|im_start|>assistant\n"  # what Qwen-Image 20 B keeps of its template behind a prompt
TAIL_TOKENS, SEEN_TOKENS = 5, 188  # of it; of a reference of 384 x 384 px in the text encoder
KLEIN_TOKENS = 512  # whatever the prompt
FIXED_TEXT = 512  # of LongCat-Image, whatever the prompt; the most of Z-Image, with its template
SEEN_LONGCAT = 326  # of a picture of 1024 x 1024 px in its text encoder, which sees half of each side
Z_TEXT = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
QUOTED = re.compile("'[^']*'|\"[^\"]*\"|‘[^’]*’|“[^”]*”")  # LongCat-Image encodes these by character
KLEIN_TEXT = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
FLUX3_WINDOW, FLUX3_TEXT = 80, 8192  # positions that a text is padded to multiples of; and the most
FLUX3_NAMES = ("flux-3", "flux.3")  # in the name of a model that is not here
POSITIONS, POSITIONS_20B = 8192, 4096  # of the transformers' rotary tables
TEXT_20B = 512  # positions of a prompt alone that the text-to-image pipeline keeps
NEVER_LONG = 400  # bytes: with its template under 512 tokens, the least that a family reads
TEXT_WIDTHS = ("context_in_dim", "joint_attention_dim", "cap_feat_dim")  # what a transformer's config calls it
PATCH_Z = 2  # side of Z-Image's patch of latents, whose config counts a latent's channels
CONFIG, TOKENIZERS = "transformer/config.json", ("processor/tokenizer.json", "tokenizer/tokenizer.json")


@dataclass(frozen=True)
class ConditioningEstimate:
    """The estimate for Qwen-Image 2.1, and what the other families share.

    Args:
        text_width: channels of a text position.
        latent_width: channels of a reference token.
        tokens: counts the tokens of a text; None if the tokenizer is not on this machine.
        basis: what the numbers were taken from, for messages.
    """

    family: ClassVar[str] = "qwen-image-2.1"
    text_width: int
    latent_width: int
    tokens: Callable[[str], int] | None
    basis: str

    def text_length(self, prompt: str, references: int) -> int:
        """The number of text positions of a prompt with so many references, those of the template included."""
        if self.tokens is None:
            return TEMPLATE_TOKENS + REFERENCE_TOKENS * references + _tokens_by_length(prompt)
        pictures = " ".join(REFERENCE.format(number=n + 1) for n in range(references))
        return self.tokens(TEXT.format(references=pictures, prompt=prompt or " "))

    def needed_text(self, prompt: str, references: int) -> int | None:
        """Text positions that the whole prompt needs; None where the tokenizer is not on this machine."""
        return None if self.tokens is None else self.text_length(prompt, references)

    def most_text(self, target: TokenGrid, references: Sequence[TokenGrid]) -> int:
        """Text positions that the family takes: beyond them it cuts the prompt, or has no positions left."""
        return POSITIONS - 1 - sum(map(max, references))

    def long_text(self, prompt: str, size: tuple[int, int], references: Sequence[TokenGrid]) -> str | None:
        """What a message says of a prompt that the family does not read whole; None if it does, or where the tokenizer
        is not on this machine. size: height and width in px of the target."""
        if not may_be_long(prompt):
            return None
        most = self.most_text((size[0] // PIXELS_PER_TOKEN, size[1] // PIXELS_PER_TOKEN), references)
        needed = self.needed_text(prompt, len(references))
        if needed is None or needed <= most:
            return None
        return f"a prompt of {needed:,} tokens with its template, and {self.family} reads {most:,}; shorten it"

    def reference_grid(self, picture: tuple[int, int], size: tuple[int, int]) -> TokenGrid:
        """Rows and columns of latent tokens of a reference. It has its shape at the target's area, in steps of 32 px.

        picture, size: height and width in px of the reference and of the target.
        """
        height, width = at_area(picture, reference_resolution(size) ** 2)
        return height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN

    def reference_grids(self, pictures: Sequence[tuple[int, int]], size: tuple[int, int]) -> tuple[TokenGrid, ...]:
        """`reference_grid` of all references of one sample."""
        return tuple(self.reference_grid(picture, size) for picture in pictures)

    def size_of_edit(self, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        """The size of an edit when none is given (`Backbone.size_of_edit`)."""
        return on_own_grid(references[-1], area)

    def reference_fault(self, reference: tuple[int, int]) -> str | None:
        """What a message says of a reference that the model refuses (`Backbone.reference_fault`)."""
        return None


class ConditioningEstimate20B(ConditioningEstimate):
    """The estimate for Qwen-Image 20 B. The image positions of the text encoder are stored as well, and references have
    a fixed area."""

    family: ClassVar[str] = "qwen-image"

    def text_length(self, prompt: str, references: int) -> int:
        pictures = "".join(f"Picture {n + 1}: <|vision_start|><|vision_end|>" for n in range(references))
        if self.tokens is None:
            return TAIL_TOKENS + (REFERENCE_TOKENS + SEEN_TOKENS) * references + _tokens_by_length(prompt)
        return self.tokens(pictures + prompt + TAIL) + SEEN_TOKENS * references

    def most_text(self, target: TokenGrid, references: Sequence[TokenGrid]) -> int:
        if not references:
            return TEXT_20B
        return POSITIONS_20B - max(side // 2 for grid in (target, *references) for side in grid)

    def reference_grid(self, picture: tuple[int, int], size: tuple[int, int]) -> TokenGrid:
        return super().reference_grid(picture, (1024, 1024))

    def size_of_edit(self, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        return at_area(references[-1], area)


class ConditioningEstimateKlein(ConditioningEstimate):
    """The estimate for FLUX.2 klein. All texts have one length, and are stored as the transformer projects them;
    references keep their size, cropped to the grid."""

    family: ClassVar[str] = "flux2-klein"

    def text_length(self, prompt: str, references: int) -> int:
        return KLEIN_TOKENS

    def needed_text(self, prompt: str, references: int) -> int | None:
        return None if self.tokens is None else self.tokens(KLEIN_TEXT.format(prompt=prompt))

    def most_text(self, target: TokenGrid, references: Sequence[TokenGrid]) -> int:
        return KLEIN_TOKENS

    def reference_grid(self, picture: tuple[int, int], size: tuple[int, int]) -> TokenGrid:
        height, width = klein_size(picture)
        return height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN

    def size_of_edit(self, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        return klein_size(references[0])

    def reference_fault(self, reference: tuple[int, int]) -> str | None:
        return klein_fault(reference)


class ConditioningEstimateFlux3(ConditioningEstimate):
    """The estimate for FLUX 3. Texts fill windows of 80 positions, and are stored as the transformer projects them."""

    family: ClassVar[str] = "flux3-klein"

    def text_length(self, prompt: str, references: int) -> int:
        needed = self.needed_text(prompt, references)
        if needed is None:
            needed = TEMPLATE_TOKENS + _tokens_by_length(prompt)
        return math.ceil(needed / FLUX3_WINDOW) * FLUX3_WINDOW

    def needed_text(self, prompt: str, references: int) -> int | None:
        return None if self.tokens is None else self.tokens(Z_TEXT.format(prompt=prompt))

    def most_text(self, target: TokenGrid, references: Sequence[TokenGrid]) -> int:
        return FLUX3_TEXT

    def reference_grids(self, pictures: Sequence[tuple[int, int]], size: tuple[int, int]) -> tuple[TokenGrid, ...]:
        sizes = [flux3_grid(picture, len(pictures)) for picture in pictures]
        return tuple((height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN) for height, width in sizes)

    def reference_grid(self, picture: tuple[int, int], size: tuple[int, int]) -> TokenGrid:
        return self.reference_grids([picture], size)[0]

    def size_of_edit(self, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        return flux3_size(references)


class ConditioningEstimateZ(ConditioningEstimate):
    """The estimate for Z-Image, which draws from text alone."""

    family: ClassVar[str] = "z-image"

    def text_length(self, prompt: str, references: int) -> int:
        if self.tokens is None:
            return TEMPLATE_TOKENS + _tokens_by_length(prompt)
        return self.tokens(Z_TEXT.format(prompt=prompt))

    def most_text(self, target: TokenGrid, references: Sequence[TokenGrid]) -> int:
        return FIXED_TEXT


class ConditioningEstimateLongCat(ConditioningEstimate):
    """The estimate for LongCat-Image. All texts have one length, beside what the text encoder sees of the reference,
    which has the target's size."""

    family: ClassVar[str] = "longcat-image"

    def text_length(self, prompt: str, references: int) -> int:
        return FIXED_TEXT + SEEN_LONGCAT * references

    def needed_text(self, prompt: str, references: int) -> int | None:
        if self.tokens is None:
            return None
        quoted = "".join(QUOTED.findall(prompt))
        return self.tokens(QUOTED.sub("", prompt)) + sum(map(self.tokens, quoted))

    def most_text(self, target: TokenGrid, references: Sequence[TokenGrid]) -> int:
        return FIXED_TEXT

    def reference_grid(self, picture: tuple[int, int], size: tuple[int, int]) -> TokenGrid:
        return size[0] // PIXELS_PER_TOKEN, size[1] // PIXELS_PER_TOKEN

    def size_of_edit(self, references: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
        return longcat_size(references[0])


def may_be_long(prompt: str) -> bool:
    """False of texts so short that every family reads them whole, however they are tokenized."""
    return len(prompt.encode("utf-8", "replace")) >= NEVER_LONG


def _kind(model: str) -> tuple[type[ConditioningEstimate], tuple[int, int]]:
    """The estimate of the model's family, and its published widths. The family is known by the pipeline class if the
    model's index is on this machine, or else by the model's name."""
    index = local_index(model)
    name = str(read_json(index).get("_class_name")) if index is not None else model.lower()
    if name.startswith("Flux3") or any(part in name for part in FLUX3_NAMES):
        return ConditioningEstimateFlux3, PUBLISHED_FLUX3
    if name == "Flux2KleinPipeline" or "klein" in name:
        return ConditioningEstimateKlein, PUBLISHED_KLEIN_9B if "9b" in name else PUBLISHED_KLEIN
    if name == "ZImagePipeline" or "z-image" in name:
        return ConditioningEstimateZ, PUBLISHED_Z
    if name.startswith("LongCatImage") or "longcat-image" in name:
        return ConditioningEstimateLongCat, PUBLISHED_LONGCAT
    if name in ("QwenImagePipeline", "QwenImageEditPlusPipeline"):
        return ConditioningEstimate20B, PUBLISHED_20B
    twenty = "qwen-image" in name and "qwen-image-2.1" not in name
    return (ConditioningEstimate20B, PUBLISHED_20B) if twenty else (ConditioningEstimate, PUBLISHED)


def estimate_conditioning(model: str) -> ConditioningEstimate:
    """The estimate for `pocket`, a folder, or a hub id. Nothing is downloaded for it: a hub id that is not on this
    machine is taken for the published model.

    Raises:
        ModelError: a folder whose transformer/config.json cannot be read.
    """
    config = local_file(model, CONFIG)
    vocabulary = next((found for name in TOKENIZERS if (found := local_file(model, name)) is not None), None)
    if config is None and Path(model).is_dir():
        raise ModelError(f"{Path(model) / CONFIG} is missing: the model folder is incomplete. Copy it again")
    kind, (text_width, latent_width) = _kind(model)
    if config is not None:
        stated = read_json(config)
        text_width = _text_width(kind, stated, text_width)
        latents = int(stated.get("in_channels", latent_width))
        latent_width = PATCH_Z**2 * latents if kind is ConditioningEstimateZ else latents
    published = {
        ConditioningEstimate: "Qwen-Image-2.1",
        ConditioningEstimate20B: "Qwen-Image",
        ConditioningEstimateKlein: f"FLUX.2 klein {9 if (text_width, latent_width) == PUBLISHED_KLEIN_9B else 4} B",
        ConditioningEstimateFlux3: "FLUX 3 Image Klein",
        ConditioningEstimateZ: "Z-Image",
        ConditioningEstimateLongCat: "LongCat-Image",
    }[kind]
    widths = "its config" if config is not None else f"the widths of {published} (the model is not on this machine)"
    counted = "its tokenizer" if vocabulary is not None else f"{CHARACTERS_PER_TOKEN} characters a token"
    return kind(text_width, latent_width, _counter(vocabulary), f"{widths} and {counted}")


def _text_width(kind: type[ConditioningEstimate], stated: Mapping[str, Any], published: int) -> int:
    """The channels of a stored text position by a transformer's config."""
    if kind in (ConditioningEstimateKlein, ConditioningEstimateFlux3):  # the transformer's own width
        return int(stated.get("num_attention_heads", 24)) * int(stated.get("attention_head_dim", 128))
    return next((int(stated[key]) for key in TEXT_WIDTHS if key in stated), published)


def local_file(model: str | Path, name: str) -> Path | None:
    """A file of a model, if it is on this machine. Nothing is downloaded."""
    folder = embedded_folder(str(model)) if is_embedded(model) else Path(model).expanduser()
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        found = try_to_load_from_cache(str(model), name)
    except ValueError:  # not a hub id either: loading the model will report that
        return None
    return Path(found) if isinstance(found, str) else None


def local_index(model: str) -> Path | None:
    """The index of a model's pipeline, if it is on this machine."""
    return local_file(model, "model_index.json") or local_file(model, MODULAR_INDEX)


def stated_config(model: str) -> Path | None:
    """The transformer's config, if it is on this machine and decides the model's size."""
    config = local_file(model, CONFIG)
    return config if local_index(model) is not None or Path(model).expanduser().is_dir() else None


def _counter(vocabulary: Path | None) -> Callable[[str], int] | None:
    if vocabulary is None:
        return None
    try:
        tokenizer = Tokenizer.from_file(str(vocabulary))
    except Exception as error:  # that is the class it raises
        raise ModelError(f"{vocabulary} is no tokenizer ({error!s:.80}). Copy or download it again") from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _tokens_by_length(prompt: str) -> int:
    dense = sum(1 for character in prompt if "⺀" <= character <= "鿿" or "가" <= character <= "힣")
    return math.ceil(dense / CHARACTERS_PER_TOKEN_DENSE + (len(prompt) - dense) / CHARACTERS_PER_TOKEN)
