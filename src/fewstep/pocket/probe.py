"""The pocket world's examiner: a small network that reads pictures, and a few measurements that need no network.

It never sees the prompt; what it reads is compared with the case. Its own accuracy on real renders and on VAE
reconstructions is stored beside its weights (`accuracy.json`). No figure of a model can be more accurate than that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewstep.pocket.cases import PocketCase
from fewstep.pocket.measure import (
    flat_mask,
    flat_noise_rms,
    pixels_of,
    psnr_8bit,
)
from fewstep.pocket.world import (
    ATTRIBUTES,
    CATEGORIES,
    GLYPHS,
)

WEIGHTS = Path(__file__).parent / "weights"
SLOTS = 3
BLANK = "_"
STYLES = ("plain", "sepia", "grey", "negative", "mosaic")
ALPHABET = GLYPHS + BLANK


def probe_questions() -> dict[str, tuple[str, ...]]:
    """Everything the network answers: name -> possible answers. Letters are read slot by slot, left to right."""
    asked: dict[str, tuple[str, ...]] = {"category": CATEGORIES, "style": STYLES}
    for kind, names in ATTRIBUTES.items():
        asked.update({f"{kind}.{name}": values for name, values in names.items()})
    asked.update({f"letter.{slot}": tuple(ALPHABET) for slot in range(SLOTS)})
    return asked


def convolutions(widths: Sequence[int]) -> nn.Sequential:
    """RGB -> a flat picture of widths[-1] channels, half as wide and high after each width."""
    layers: list[nn.Module] = []
    for before, after in zip((3, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        layers += [nn.Conv2d(after, after, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten())


class Reader(nn.Module):
    """64 x 64 RGB -> 128 features -> one linear answer per question."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 96), features: int = 128):
        super().__init__()
        self.see = convolutions(widths)
        self.gather = nn.Linear(widths[-1] * 16, features)
        self.answer = nn.Linear(features, sum(len(values) for values in probe_questions().values()))

    def features(self, x: Tensor) -> Tensor:
        return self.gather(self.see(x))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.answer(nn.functional.silu(self.features(x)))
        sizes = [len(values) for values in probe_questions().values()]
        return dict(zip(probe_questions(), logits.split(sizes, dim=1), strict=True))


def network_input(images: np.ndarray | Tensor) -> Tensor:
    """(B, 64, 64, 3) uint8 -> (B, 3, 64, 64) in [-1, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


class Probe:
    """Reads pictures; `examine` compares with cases."""

    def __init__(self, reader: Reader, accuracy: dict[str, Any]):
        self.reader, self.accuracy = reader.eval(), accuracy

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> Probe:
        reader = Reader()
        reader.load_state_dict({k: v.float() for k, v in load_file(folder / "reader.safetensors").items()})
        return cls(reader, json.loads((folder / "accuracy.json").read_text()))

    def save(self, folder: Path = WEIGHTS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.to(torch.bfloat16).contiguous() for k, v in self.reader.state_dict().items()}
        save_file(state, folder / "reader.safetensors")
        (folder / "accuracy.json").write_text(json.dumps(self.accuracy, indent=1))

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """(n, 128), for Frechet distances."""
        batches = network_input(pixels_of(images)).split(256)
        return torch.cat([self.reader.features(x) for x in batches]).numpy()

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """The most likely answer to every question, for each picture; `letters` joins the slots."""
        found: list[dict[str, str]] = [{} for _ in images]
        picked: dict[str, list[int]] = {name: [] for name in probe_questions()}
        for x in network_input(pixels_of(images)).split(256):
            for name, logits in self.reader(x).items():
                picked[name] += logits.argmax(1).tolist()
        for name, values in probe_questions().items():
            for answers, index in zip(found, picked[name], strict=True):
                answers[name] = values[index]
        for answers in found:
            answers["letters"] = "".join(answers[f"letter.{slot}"] for slot in range(SLOTS)).replace(BLANK, "")
        return found

    def examine(self, images: Sequence[Image.Image], cases: Sequence[PocketCase]) -> list[dict[str, Any]]:
        """One record per picture: see `probe_record`."""
        return [probe_record(*each) for each in zip(pixels_of(images), self.read(images), cases, strict=True)]


def probe_record(picture: np.ndarray, read: dict[str, str], case: PocketCase) -> dict[str, Any]:
    """attributes: share read as the case states. letters_exact: whether the whole word is right. changed: share of an
    edit's changed attributes that are right. preserved_psnr: dB against the target where nothing may change. None: does
    not apply."""
    right = {name: answer_to(name, read, case) == wanted for name, wanted in case.attributes.items()}
    letters = None if case.letters is None else read["letters"] == case.letters
    changed = [bool(letters) if name == "letters" else right[name] for name in case.changed]
    kept = None if case.region is None or case.region.all() else ~case.region
    target = pixels_of([case.target])[0]
    return {
        "id": case.id,
        "category": case.category,
        "attributes": float(np.mean(list(right.values()))),
        "right": right,
        "letters_exact": letters,
        "letters_read": read["letters"] if case.letters is not None else None,
        "changed": float(np.mean(changed)) if changed else None,
        "preserved_psnr": None if kept is None else psnr_8bit(picture[kept], target[kept]),
        "target_psnr": psnr_8bit(picture, target) if case.task == "edit" else None,
        "flat_noise": None if case.category == "style" else flat_noise_rms(picture, flat_mask(case.scene)),
    }


def answer_to(name: str, read: dict[str, str], case: PocketCase) -> str:
    return read["style"] if name == "style" else read[f"{case.scene_category}.{name}"]


__all__ = ["Probe", "Reader", "probe_questions"]
