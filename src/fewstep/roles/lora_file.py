"""LoRA files as people have them: diffusers, peft and ComfyUI keys, alpha wherever they keep it.

W' = W + (alpha / rank) B A with A (rank, in) and B (out, rank). A file without alpha means alpha = rank everywhere, so
that is how it is read.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fewstep.errors import AdapterError

FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # what diffusers and peft call theirs
_KEY = re.compile(
    r"^(?:base_model\.model\.)?(?:transformer\.|diffusion_model\.)?(?P<module>.+?)\."
    r"(?:lora_(?P<side>A|B|down|up)(?:\.default)?\.weight|(?P<alpha>alpha))$"
)
_SIDES = {"A": "A", "down": "A", "B": "B", "up": "B"}


@dataclass(frozen=True)
class Factors:
    """One module's update. a (rank, in), b (out, rank)."""

    a: Tensor
    b: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def read(path: Path) -> dict[str, Factors]:
    """The factors by module name of a file, or of a folder that holds one.

    Raises:
        AdapterError: nothing to read, keys that are no LoRA, a factor without its partner, values not finite.
    """
    file = _file(path)
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{file} cannot be read as safetensors ({error}); download or export it again") from error
    sides, alphas = _sorted(file, tensors)
    config = _config(file, metadata)
    return {module: _factors(file, module, pair, alphas.get(module), config) for module, pair in sides.items()}


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(found) != 1:
        held = "no" if not found else "more than one"
        raise AdapterError(f"{path} holds {held} LoRA; give the .safetensors file itself, or a folder with one in it")
    return found[0]


def _sorted(file: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    sides: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, value in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise AdapterError(
                f"{file}: '{key}' is not a LoRA of a transformer's module (lora_A / lora_B / alpha). DoRA, biases, "
                "LoHa and text encoder adapters are not supported; convert it, or give the teacher as a merged model"
            )
        if match["alpha"]:
            alphas[match["module"]] = float(value)
        else:
            sides.setdefault(match["module"], {})[_SIDES[match["side"]]] = value
    if not sides:
        raise AdapterError(f"{file} holds no LoRA factors")
    return sides, alphas


def _config(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """peft's LoraConfig, from diffusers' metadata or from the file that peft writes beside the weights."""
    if "lora_adapter_metadata" in metadata:
        stored = json.loads(metadata["lora_adapter_metadata"])
        return {key.removeprefix("transformer."): value for key, value in stored.items()}
    beside = file.with_name("adapter_config.json")
    config: dict[str, Any] = json.loads(beside.read_text()) if beside.is_file() else {}
    return config


def _factors(
    file: Path, module: str, pair: Mapping[str, Tensor], alpha: float | None, config: Mapping[str, Any]
) -> Factors:
    if set(pair) != {"A", "B"}:
        raise AdapterError(f"{file}: {module} has lora_{next(iter(pair))} but not its partner; the file is incomplete")
    a, b = pair["A"], pair["B"]
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise AdapterError(f"{file}: {module}: A {tuple(a.shape)} and B {tuple(b.shape)} do not multiply")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise AdapterError(f"{file}: {module} holds values that are not finite; take an earlier checkpoint of it")
    if alpha is None:
        alpha = _declared_alpha(module, a.shape[0], config)
    return Factors(a, b, alpha)


def _declared_alpha(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """peft's reading: a pattern that ends in the module's name goes before the one value for all. rsLoRA scales by
    alpha / sqrt(rank), which is alpha sqrt(rank) / rank."""
    alpha = config.get("lora_alpha", rank)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
            alpha = value
            break
    return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)
