"""The harder world's reader: a small network that says of a picture what it shows. It never sees the prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fewstep.backbones.identity import digest
from fewstep.pocket.harder.attributes import CATEGORIES, GLYPHS, LONGEST_WORD
from fewstep.pocket.harder.edits import STYLES
from fewstep.pocket.harder.scenes import SIZES, Scene, hair_hidden
from fewstep.pocket.harder.sign import CELL, TILE, letter_corners
from fewstep.pocket.probe import convolutions
from fewstep.runtime.errors import ModelError

READER = Path(__file__).parent / "reader"
BLANK = "_"
ALPHABET = GLYPHS + BLANK
PLAIN = "plain"
SIDE = max(side for size in SIZES for side in size)  # px; smaller pictures lie in the middle of such a square
GREY = 128
PLACE = 8  # px between two places where a letter is looked for
LAYERS = 5  # of each width of `convolutions`


def reader_questions() -> dict[str, tuple[str, ...]]:
    """Name -> possible answers. Letters are read slot by slot, left to right."""
    asked: dict[str, tuple[str, ...]] = {"category": tuple(CATEGORIES), "style": (PLAIN, *STYLES)}
    asked |= {f"{kind}.{each.name}": each.values for kind, table in CATEGORIES.items() for each in table}
    return asked | {f"letter.{slot}": tuple(ALPHABET) for slot in range(LONGEST_WORD)}


def plain_questions() -> dict[str, tuple[str, ...]]:
    """All but the letters."""
    return {name: values for name, values in reader_questions().items() if not name.startswith("letter.")}


def right_answers(it: Scene, style: str | None) -> dict[str, str]:
    """Every question that applies to a picture of this scene. A styled one is asked for its style alone, and nobody for
    the colour of hair that a hat covers."""
    if style is not None:
        return {"style": style}
    covered = {"hair"} if hair_hidden(it) else set()
    named = {f"{it.category}.{name}": value for name, value in it.named if name not in covered}
    word = {f"letter.{slot}": glyph for slot, glyph in enumerate(it.word.ljust(LONGEST_WORD, BLANK))}
    return {"style": PLAIN, "category": it.category, **named, **word}


class Reader(nn.Module):
    """(B, 3, 128, 128) -> features -> one linear answer per question, but for the letters.

    Letters are small and stand anywhere, so a slot first looks for its own: attention over places 8 px apart, with a
    query that follows from the features. What it finds there is read by layers that all slots share.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 96), features: int = 160, looking: int = 64):
        """looking: width of keys, values and queries."""
        super().__init__()
        layers, last = convolutions(widths), 2 ** len(widths)
        near = LAYERS * (len(widths) - 1)
        self.near, self.far = layers[:near], layers[near:]
        self.gather = nn.Linear(widths[-1] * (SIDE // last) ** 2, features)
        self.answer = nn.Linear(features, sum(len(values) for values in plain_questions().values()))
        self.key, self.value = (nn.Conv2d(widths[-2], looking, 1) for _ in range(2))
        self.place = nn.Parameter(0.02 * torch.randn(looking, (2 * SIDE // last) ** 2))
        self.query = nn.Linear(features, LONGEST_WORD * looking)
        self.glyph = nn.Sequential(nn.Linear(2 * looking, 128), nn.SiLU(), nn.Linear(128, len(ALPHABET)))

    def features(self, x: Tensor) -> Tensor:
        return self.gather(self.far(self.near(x)))

    def answers_and_looks(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Logits (B, answers) of each question, and the logarithm of where each slot looks, (B, slots, places): rows
        of places 8 px apart, as `letter_places`."""
        near = self.near(x)
        features = nn.functional.silu(self.gather(self.far(near)))
        asked = plain_questions()
        logits = self.answer(features).split([len(values) for values in asked.values()], dim=1)
        queries = self.query(features).unflatten(1, (LONGEST_WORD, -1))
        keys, values = self.key(near).flatten(2) + self.place, self.value(near).flatten(2)
        looks = (queries @ keys / queries.shape[-1] ** 0.5).float().log_softmax(2)
        found = looks.exp().to(values.dtype) @ values.transpose(1, 2)
        glyphs = self.glyph(torch.cat([found, queries], dim=2))
        letters = {f"letter.{slot}": glyphs[:, slot] for slot in range(LONGEST_WORD)}
        return dict(zip(asked, logits, strict=True)) | letters, looks

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.answers_and_looks(x)[0]


def letter_places(it: Scene) -> np.ndarray:
    """(slots, places) float32: where in its square each letter of a sign stands, in shares that sum to 1; zeros where
    there is none. Places are rows of squares of 8 px."""
    found = np.zeros((LONGEST_WORD, SIDE // PLACE, SIDE // PLACE), np.float32)
    if it.word:
        wide, high = it.size
        for slot, (left, top) in zip(found, letter_corners(it), strict=False):
            row, column = (top + (SIDE - high) // 2) // PLACE, (left + (SIDE - wide) // 2) // PLACE
            slot[row : row + TILE // PLACE, column : column + CELL[it["size"]] // PLACE] = 1
            slot /= slot.sum()
    return found.reshape(LONGEST_WORD, -1)


def squared(pictures: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
    """(n, 128, 128, 3) uint8: each picture in the middle of a grey square, so that its latent tiles lie on one grid.

    Raises:
        ValueError: a picture is larger than that.
    """
    found = np.full((len(pictures), SIDE, SIDE, 3), GREY, np.uint8)
    for row, picture in zip(found, pictures, strict=True):
        pixels = np.asarray(picture)[..., :3]
        high, wide = pixels.shape[:2]
        if max(high, wide) > SIDE:
            raise ValueError(f"the reader sees pictures of {SIDE} px at most; this one has {wide} x {high}")
        top, left = (SIDE - high) // 2, (SIDE - wide) // 2
        row[top : top + high, left : left + wide] = pixels
    return found


def reader_inputs(pictures: Sequence[Image.Image | np.ndarray]) -> Iterator[Tensor]:
    """(B, 3, 128, 128) in [-1, 1], up to 128 pictures at once."""
    for start in range(0, len(pictures), 128):
        yield torch.from_numpy(squared(pictures[start : start + 128])).permute(0, 3, 1, 2).float() / 127.5 - 1


def load_reader(folder: Path) -> tuple[Reader, dict[str, Any]]:
    """The reader that `probe_train.train_probe` wrote, and its own accuracy on held-out renders.

    Raises:
        ModelError: there is none, or one of other questions.
    """
    try:
        weights = {name: value.float() for name, value in load_file(folder / "reader.safetensors").items()}
        accuracy: dict[str, Any] = json.loads((folder / "accuracy.json").read_text())
        reader = Reader()
        reader.load_state_dict(weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: no reader of the harder world there; give the folder `reader` that `fewstep pocket train "
            f"--world harder` wrote, with reader.safetensors and accuracy.json ({type(error).__name__})"
        ) from error
    except RuntimeError as error:
        raise ModelError(f"{folder}: its reader answers other questions; train it again for this world") from error
    return reader.eval(), accuracy


def reader_name(folder: Path) -> str:
    """Which reader it is, as figures and verdicts state it: figures of two readers are not compared unknowingly."""
    return f"reader-{digest([(folder / 'reader.safetensors').read_bytes()])}"


@torch.no_grad()
def features(reader: Reader, pictures: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
    """(n, features), for distances between pictures."""
    return torch.cat([reader.features(x) for x in reader_inputs(pictures)]).double().numpy()


@torch.no_grad()
def read(reader: Reader, pictures: Sequence[Image.Image | np.ndarray]) -> list[dict[str, str]]:
    """The most likely answer to every question, for each picture; `word` joins the slots."""
    asked = reader_questions()
    found: list[dict[str, str]] = []
    for x in reader_inputs(pictures):
        picked = {name: logits.argmax(1).tolist() for name, logits in reader(x).items()}
        found += [{name: asked[name][picked[name][k]] for name in asked} for k in range(len(x))]
    for answers in found:
        answers["word"] = "".join(answers[f"letter.{slot}"] for slot in range(LONGEST_WORD)).replace(BLANK, "")
    return found
