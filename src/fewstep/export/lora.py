"""A student's low-rank update: from the naming peft gives it in training, to LoRA files.

alpha is always written: a file without it is loaded with alpha = rank, which is another model.
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
from fewstep.runtime.errors import AdapterError

WEIGHT_FILE = "pytorch_lora_weights.safetensors"  # what load_lora_weights looks for in a folder
PROGRAMS: dict[str, tuple[Program, ...]] = {
    "diffusers": ("diffusers",),
    "comfyui": ("comfyui",),
    "both": ("diffusers", "comfyui"),
}


@dataclass(frozen=True)
class LoraFiles:
    """What is wanted of a student's LoRA. programs: whose keys; svd_rank: the rank it is cut down to."""

    programs: tuple[Program, ...] = PROGRAMS["diffusers"]
    svd_rank: int | None = None

    @classmethod
    def from_options(cls, programs: str | None, svd_rank: int | None) -> "LoraFiles | None":
        """As the command line says it: diffusers, comfyui or both; None where nothing was said.

        Raises:
            AdapterError: another name.
        """
        if programs is None and svd_rank is None:
            return None
        if programs is not None and programs not in PROGRAMS:
            raise AdapterError(f"a LoRA is written for {', '.join(PROGRAMS)}, not for '{programs}'")
        return cls(PROGRAMS[programs or "diffusers"], svd_rank)


@dataclass(frozen=True)
class Lora:
    """The updates by module name, as the transformer names its modules. cut: what was left out of what was trained."""

    updates: Mapping[str, Factors]
    cut: TruncatedFactors | None = None

    @classmethod
    def of(cls, state: Mapping[str, Tensor], alpha: float) -> "Lora":
        """The adapter of a peft state dict, with or without an adapter's name and the usual prefixes in its keys.

        Raises:
            AdapterError: keys that are no LoRA factors, a factor without its partner, ranks that do not fit,
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
            AdapterError: it is of no higher rank.
        """
        cut = truncate(self.updates, rank)
        return Lora(cut.updates, cut)

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({update.rank for update in self.updates.values()}))


def write_lora(lora: Lora, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The file that pipe.load_lora_weights(folder) opens: factors of `dtype`, keys transformer.<module>.lora_A.weight,
    rank and alpha in the metadata, where diffusers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(_config(lora), sort_keys=True)}
    save_file(_sides(lora.updates, "diffusers", dtype), folder / WEIGHT_FILE, metadata=metadata)
    return folder / WEIGHT_FILE


def write_comfyui_lora(lora: Lora, file: Path, shapes: Shapes, dtype: torch.dtype = torch.float32) -> None:
    """The file that ComfyUI's LoRA loaders open: keys diffusion_model.<module>.lora_A.weight, alpha beside each, the
    layers that ComfyUI fuses in block form. shapes: the base's linear layers."""
    updates = to_comfyui_names(lora.updates, shapes)
    alphas = {lora_key(m, "alpha", "comfyui"): torch.tensor(float(update.alpha)) for m, update in updates.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(_sides(updates, "comfyui", dtype) | alphas, file, metadata={"format": "pt"})


def _sides(updates: Mapping[str, Factors], program: Program, dtype: torch.dtype) -> dict[str, Tensor]:
    sides: tuple[tuple[Part, str], ...] = (("A", "a"), ("B", "b"))
    return {
        lora_key(module, part, program): getattr(update, name).detach().to(dtype).cpu().contiguous()
        for module, update in updates.items()
        for part, name in sides
    }


def _config(lora: Lora) -> dict[str, object]:
    """The arguments of peft's LoraConfig, prefixed as diffusers expects them. The patterns name modules from the start,
    so that one module's rank is not given to another whose name ends alike."""
    ranks = {module: update.rank for module, update in lora.updates.items()}
    alphas = {module: update.alpha for module, update in lora.updates.items()}
    rank = max(ranks.values(), key=list(ranks.values()).count)
    alpha = max(alphas.values(), key=list(alphas.values()).count)
    config = {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(lora.updates),
        "rank_pattern": {f"^{module}": r for module, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{module}": a for module, a in alphas.items() if a != alpha},
    }
    return {f"transformer.{key}": value for key, value in config.items()}
