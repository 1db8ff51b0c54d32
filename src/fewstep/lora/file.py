"""Reads LoRA files as diffusers, peft, ComfyUI and kohya write them, with alpha wherever they store it."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fewstep.lora.factors import Factors, factors_of
from fewstep.lora.keys import Part, parse_key
from fewstep.runtime.errors import AdapterError

FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # what diffusers and peft call theirs
PEFT_ALPHA = 8.0  # peft's default where a config leaves it out
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")  # torch's zip, and bare pickles


def read_lora(path: Path) -> dict[str, Factors]:
    """The factors of a LoRA file by module, or of a folder that holds one file.

    Modules have the names of the file. `lora.keys.to_diffusers_names` finds them in a base.

    Raises:
        AdapterError: there is no file, it is pickled or incomplete, its keys are not those of a LoRA, a factor lacks
            its partner, ranks contradict each other, or values are not finite.
    """
    file = _file(path)
    _refuse_pickles(file)
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"{file} cannot be read as safetensors ({error}): half a download, or a pointer of Git LFS. "
            "Download or export it again"
        ) from error
    sides, alphas = _sorted(file, tensors)
    config = _config(file, metadata)
    _refuse_missing_alphas(file, sides, alphas, config)
    return {m: _factors(f"{file}: ", m, pair, alphas.get(m), config) for m, pair in sides.items()}


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    if not path.exists():
        raise AdapterError(f"{path} is not there, so it holds no LoRA; give a .safetensors file, or a folder with one")
    held = "no LoRA" if not found else "more than one LoRA"
    pickled = sorted(file.name for file in path.glob("*") if file.suffix in _PICKLED)
    also = f" (pickled files such as {pickled[0]} are not opened)" if pickled else ""
    raise AdapterError(f"{path} holds {held}{also}; give the .safetensors file itself, or a folder with one in it")


def _refuse_pickles(file: Path) -> None:
    with file.open("rb") as stream:
        start = stream.read(4)
    if file.suffix in _PICKLED or start.startswith(_PICKLE_STARTS):
        raise AdapterError(
            f"{file} is pickled, and a pickle can run code when it is opened. Convert it where you trust it: "
            "load it there, and write it with safetensors.torch.save_file"
        )


def _sorted(file: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[Part, Tensor]], dict[str, float]]:
    """Sides and alphas by module."""
    keys = {name: parse_key(name) for name in tensors}
    strange = [name for name, key in keys.items() if key is None]
    if strange:
        raise AdapterError(
            f"{file}: '{strange[0]}' is not a LoRA of a transformer's module (lora_A / lora_B / alpha); {len(strange)} "
            f"of {len(keys)} keys are not. DoRA, biases, LoHa and text encoder adapters are not supported; convert it, "
            "or give the teacher as a merged model"
        )
    sides: dict[str, dict[Part, Tensor]] = {}
    alphas: dict[str, float] = {}
    for name, value in tensors.items():
        key = keys[name]
        assert key is not None
        if key.part == "alpha":
            alpha = float(value)
            if alpha or not key.kohya:  # kohya reads 0 as "not given"
                alphas[key.module] = alpha
        elif key.part in sides.setdefault(key.module, {}):
            raise AdapterError(f"{file} holds {key.module} twice, under different names; export it again")
        else:
            sides[key.module][key.part] = value
    if not sides:
        raise AdapterError(f"{file} holds no LoRA factors")
    return sides, alphas


def _refuse_missing_alphas(
    file: Path, sides: Mapping[str, Any], alphas: Mapping[str, float], config: Mapping[str, Any]
) -> None:
    """Refuses a file with alpha for some modules only. Without any alpha all programs take alpha = rank. If there are
    some, the others were lost, and with them their scale."""
    missing = sorted(set(sides) - set(alphas))
    if alphas and missing and not config:
        raise AdapterError(
            f"{file} gives alpha for {len(alphas)} of {len(sides)} modules, and none for {missing[0]}: how strongly it "
            "changes that one is lost. Export it again, or write the missing alphas"
        )


def _config(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of peft's LoraConfig, from diffusers' metadata or from the file that peft writes beside the
    weights. Empty if there are none."""
    beside = file.with_name("adapter_config.json")
    try:
        if "lora_adapter_metadata" in metadata:
            stored = json.loads(metadata["lora_adapter_metadata"])
            return {key.removeprefix("transformer."): value for key, value in stored.items()}
        config: dict[str, Any] = json.loads(beside.read_text()) if beside.is_file() else {}
    except ValueError as error:
        raise AdapterError(f"the configuration of {file} is no JSON ({error}); export it again") from error
    return config


def _factors(
    where: str, module: str, pair: Mapping[Part, Tensor], alpha: float | None, config: Mapping[str, Any]
) -> Factors:
    made = factors_of(
        module, {str(side): value for side, value in pair.items()}, 1.0 if alpha is None else alpha, where
    )
    declared = _of_pattern("rank_pattern", module, config, config.get("r", made.rank))
    if declared != made.rank:
        raise AdapterError(
            f"{where}{module} is of rank {made.rank}, its configuration says {declared}: the weights of one adapter "
            "beside the configuration of another. Copy or download both again"
        )
    if alpha is not None:
        return made
    return Factors(made.a, made.b, _declared_alpha(module, made.rank, config))


def _declared_alpha(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """The alpha of a module by the configuration; its rank if there is none."""
    # rsLoRA scales by alpha / sqrt(rank) = (alpha sqrt(rank)) / rank    [rsLoRA, arXiv 2312.03732]
    if not config:
        return float(rank)
    alpha = float(_of_pattern("alpha_pattern", module, config, config.get("lora_alpha", PEFT_ALPHA)))
    return alpha * (math.sqrt(rank) if config.get("use_rslora") else 1.0)


def _of_pattern(name: str, module: str, config: Mapping[str, Any], default: Any) -> Any:
    """A value by pattern, as peft reads it: a pattern that matches the end of the module's name beats the default."""
    for pattern, value in (config.get(name) or {}).items():
        if re.match(rf"(?:.*\.)?(?:{pattern})$", module):
            return value
    return default
