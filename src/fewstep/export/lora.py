"""A student's low-rank update: read from any naming peft gives it, merged in float32, written as a LoRA file.

The update of one module is W' = W + (alpha / rank) B A, with A (rank, in) and B (out, rank). alpha is always written:
a file without it is loaded with alpha = rank, which is another model.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fewstep.errors import AdapterError

WEIGHT_FILE = "pytorch_lora_weights.safetensors"  # what load_lora_weights looks for in a folder
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?:transformer\.|diffusion_model\.)?(?P<module>.+)\.lora_(?P<side>[AB])"
    r"(?:\.(?!weight$)[^.]+)?\.weight$"
)


@dataclass(frozen=True)
class Update:
    """The factors of one module's update, and its scale alpha / rank."""

    a: Tensor
    b: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def delta(self) -> Tensor:
        """(alpha / rank) B A in float32."""
        return (self.alpha / self.rank) * (self.b.float() @ self.a.float())


@dataclass(frozen=True)
class Lora:
    """The updates by module name, as the transformer names its modules."""

    updates: Mapping[str, Update]

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
            match = _KEY.match(key)
            if match is None:
                raise AdapterError(
                    f"'{key}' is not a LoRA factor (…lora_A.weight or …lora_B.weight). DoRA, biases and whole modules "
                    "cannot be exported as LoRA; export the run's full weights instead"
                )
            if match["side"] in sides.setdefault(match["module"], {}):
                raise AdapterError(f"the state holds two adapters on {match['module']}; export one at a time")
            sides[match["module"]][match["side"]] = value
        if not sides:
            raise AdapterError("the adapter is empty: there is nothing to export")
        return cls({module: _update(module, pair, alpha) for module, pair in sorted(sides.items())})

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({update.rank for update in self.updates.values()}))


def _update(module: str, pair: Mapping[str, Tensor], alpha: float) -> Update:
    if set(pair) != {"A", "B"}:
        raise AdapterError(f"{module} has lora_{next(iter(pair))} but not its partner; the checkpoint is incomplete")
    a, b = pair["A"], pair["B"]
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise AdapterError(f"{module}: lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)} do not multiply")
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise AdapterError(f"{module}: the adapter holds values that are not finite; export an earlier checkpoint")
    return Update(a, b, alpha)


def merged(weight: Tensor, update: Update, module: str) -> Tensor:
    """W + (alpha / rank) B A in float32, whatever the dtype of W: in bfloat16 the sum would lose most of the update."""
    delta = update.delta().to(weight.device)
    if delta.shape != weight.shape:
        raise AdapterError(f"{module}: the update {tuple(delta.shape)} does not fit the base {tuple(weight.shape)}")
    return weight.float() + delta


def write_lora(lora: Lora, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The file that pipe.load_lora_weights(folder) opens: factors of `dtype`, keys transformer.<module>.lora_A.weight,
    rank and alpha in the metadata, where diffusers reads them."""
    tensors: dict[str, Tensor] = {}
    for module, update in lora.updates.items():
        tensors[f"transformer.{module}.lora_A.weight"] = update.a.detach().to(dtype).cpu().contiguous()
        tensors[f"transformer.{module}.lora_B.weight"] = update.b.detach().to(dtype).cpu().contiguous()
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
