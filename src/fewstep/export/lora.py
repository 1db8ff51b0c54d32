"""Writes a student's low-rank update as LoRA files, from the names that peft gives it in training.

The scale alpha / rank is multiplied into B, and alpha = rank is written. Programs look for alpha in different places,
and those that find none take the rank: so all of them apply the update as strongly as it was trained.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fewstep.lora.factors import Factors, factors_of
from fewstep.lora.keys import (
    Part,
    Program,
    Shapes,
    lora_key,
    parse_key,
    to_comfyui_names,
)
from fewstep.lora.truncation import TruncatedFactors, truncate
from fewstep.runtime.durable import as_umask_says
from fewstep.runtime.errors import AdapterError

WEIGHT_FILE = "pytorch_lora_weights.safetensors"  # what load_lora_weights looks for in a folder
PROGRAMS: dict[str, tuple[Program, ...]] = {
    "diffusers": ("diffusers",),
    "comfyui": ("comfyui",),
    "both": ("diffusers", "comfyui"),
    "plain": ("plain",),
}
PLAIN_FOLDER = "plain"


@dataclass(frozen=True)
class LoraFiles:
    """Which LoRA files to write. programs: for which programs. svd_rank: the rank to cut it down to; None: its own."""

    programs: tuple[Program, ...] = PROGRAMS["diffusers"]
    svd_rank: int | None = None

    @classmethod
    def from_options(cls, programs: str | None, svd_rank: int | None) -> "LoraFiles | None":
        """From the options of the command line (diffusers, comfyui, both or plain); None if neither was given.

        Raises:
            AdapterError: another program.
        """
        if programs is None and svd_rank is None:
            return None
        if programs is not None and programs not in PROGRAMS:
            raise AdapterError(f"a LoRA is written for {', '.join(PROGRAMS)}, not for '{programs}'")
        return cls(PROGRAMS[programs or "diffusers"], svd_rank)

    @property
    def for_comfyui(self) -> bool:
        """Whether ComfyUI opens one of the files."""
        return "comfyui" in self.programs or "plain" in self.programs


@dataclass(frozen=True)
class Lora:
    """The updates by module, as the transformer names its modules. cut: what was left out of the trained update."""

    updates: Mapping[str, Factors]
    cut: TruncatedFactors | None = None

    @classmethod
    def of(cls, state: Mapping[str, Tensor], alpha: float) -> "Lora":
        """The adapter in a peft state dict. Its keys may contain an adapter's name and peft's prefixes.

        Raises:
            AdapterError: keys that are not LoRA factors, a factor without its partner, ranks that do not fit, or
                values that are not finite.
        """
        if not (math.isfinite(alpha) and alpha > 0):
            raise AdapterError(f"alpha of a LoRA is a positive number, not {alpha}")
        sides: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            found = parse_key(key)
            if found is None or found.part == "alpha":
                raise AdapterError(
                    f"'{key}' is not a LoRA factor (…lora_A.weight or …lora_B.weight). DoRA, biases and whole modules "
                    "cannot be exported as LoRA; export the run's full weights instead"
                )
            if found.part in sides.setdefault(found.module, {}):
                raise AdapterError(f"the state holds two adapters on {found.module}; export one at a time")
            sides[found.module][found.part] = value
        if not sides:
            raise AdapterError("the adapter is empty: there is nothing to export")
        return cls({module: factors_of(module, pair, alpha) for module, pair in sorted(sides.items())})

    def of_rank(self, rank: int) -> "Lora":
        """The nearest update of at most this rank.

        Raises:
            AdapterError: the update has no higher rank than that.
        """
        cut = truncate(self.updates, rank)
        return Lora(cut.updates, cut)

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({update.rank for update in self.updates.values()}))


def write_lora(
    lora: Lora, folder: Path, dtype: torch.dtype = torch.float32, stated: Mapping[str, str] | None = None
) -> Path:
    """Writes the file that pipe.load_lora_weights(folder) opens: factors in `dtype`, keys
    transformer.<module>.lora_A.weight, and rank and alpha in the metadata, where diffusers reads them. stated: further
    metadata."""
    updates = _at_scale_one(lora.updates)
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(_config(updates), sort_keys=True), **(stated or {})}
    return _saved(_sides(updates, "diffusers", dtype), folder / WEIGHT_FILE, metadata)


def write_comfyui_lora(lora: Lora, file: Path, shapes: Shapes, dtype: torch.dtype = torch.float32) -> Path:
    """Writes the file that ComfyUI's LoRA loaders open: keys diffusion_model.<module>.lora_A.weight with an alpha for
    each module, and fused layers in block form. shapes: the base's linear layers."""
    updates = to_comfyui_names(_at_scale_one(lora.updates), shapes)
    return _saved(_sides(updates, "comfyui", dtype) | _alphas(updates, "comfyui"), file)


def write_plain_lora(lora: Lora, file: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Writes the file that DiffSynth-Studio loads, and ComfyUI too: bare keys <module>.lora_A.weight with an alpha for
    each module, by diffusers' own modules, none of them fused."""
    updates = _at_scale_one(lora.updates)
    return _saved(_sides(updates, "plain", dtype) | _alphas(updates, "plain"), file)


def _at_scale_one(updates: Mapping[str, Factors]) -> dict[str, Factors]:
    return {module: update.at_scale_one() for module, update in updates.items()}


def _saved(tensors: dict[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata=dict(metadata or {"format": "pt"}))
    as_umask_says(file)
    return file


def _alphas(updates: Mapping[str, Factors], program: Program) -> dict[str, Tensor]:
    return {lora_key(m, "alpha", program): torch.tensor(float(update.alpha)) for m, update in updates.items()}


def _sides(updates: Mapping[str, Factors], program: Program, dtype: torch.dtype) -> dict[str, Tensor]:
    sides: tuple[tuple[Part, str], ...] = (("A", "a"), ("B", "b"))
    return {
        lora_key(module, part, program): getattr(update, name).detach().to(dtype).cpu().contiguous()
        for module, update in updates.items()
        for part, name in sides
    }


def _config(updates: Mapping[str, Factors]) -> dict[str, object]:
    """The arguments of peft's LoraConfig, with the prefix that diffusers expects, for updates with alpha = rank.

    Patterns match names from the start, so that a module does not get the rank of another one whose name has the same
    end.
    """
    ranks = {module: update.rank for module, update in updates.items()}
    rank = max(ranks.values(), key=list(ranks.values()).count)
    others = {f"^{module}": r for module, r in ranks.items() if r != rank}
    config = {
        "r": rank,
        "lora_alpha": float(rank),
        "target_modules": list(updates),
        "rank_pattern": others,
        "alpha_pattern": {pattern: float(r) for pattern, r in others.items()},
    }
    return {f"transformer.{key}": value for key, value in config.items()}
