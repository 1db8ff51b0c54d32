"""A student's low-rank update: from the naming peft gives it in training, to a LoRA file.

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

from fewstep.errors import AdapterError
from fewstep.lora.factors import Factors, factors_of
from fewstep.lora.keys import parsed, written

WEIGHT_FILE = "pytorch_lora_weights.safetensors"  # what load_lora_weights looks for in a folder


@dataclass(frozen=True)
class Lora:
    """The updates by module name, as the transformer names its modules."""

    updates: Mapping[str, Factors]

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
            found = parsed(key)
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

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({update.rank for update in self.updates.values()}))


def write_lora(lora: Lora, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The file that pipe.load_lora_weights(folder) opens: factors of `dtype`, keys transformer.<module>.lora_A.weight,
    rank and alpha in the metadata, where diffusers reads them."""
    tensors: dict[str, Tensor] = {}
    for module, update in lora.updates.items():
        tensors[written(module, "A")] = update.a.detach().to(dtype).cpu().contiguous()
        tensors[written(module, "B")] = update.b.detach().to(dtype).cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(_config(lora), sort_keys=True)}
    save_file(tensors, folder / WEIGHT_FILE, metadata=metadata)
    return folder / WEIGHT_FILE


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
