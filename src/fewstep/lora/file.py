"""Reads LoRA files as diffusers, peft, ComfyUI and kohya write them, with alpha wherever they store it."""

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fewstep.lora.factors import Factors, factors_of
from fewstep.lora.keys import Part, parse_key
from fewstep.lora.kinds import in_float, refuse_other_kinds, refuse_strange_keys
from fewstep.lora.stated import SAME_ALPHA, StatedStrength, stated_strength
from fewstep.runtime.errors import AdapterError

FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # what diffusers and peft call theirs
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")  # torch's zip, and bare pickles


def read_lora(path: Path) -> dict[str, Factors]:
    """The factors of a LoRA file by module, or of a folder that holds one file.

    Modules have the names of the file. `lora.keys.to_diffusers_names` finds them in a base.

    Raises:
        AdapterError: there is no file, it is pickled or incomplete, it is another kind of adapter (`lora.kinds`), a
            factor lacks its partner, ranks or alphas contradict each other, or values are not finite.
    """
    file = lora_file(path)
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
    stated = stated_strength(file, metadata)
    refuse_other_kinds(file, stated)
    sides, alphas = _sorted(file, tensors)
    found = {module: _factors(f"{file}: ", module, pair, alphas.get(module), stated) for module, pair in sides.items()}
    _refuse_missing_alphas(file, found, alphas, stated)
    return found


def lora_file(path: Path) -> Path:
    """The one LoRA file that a path names: itself, or the file in that folder.

    Raises:
        AdapterError: there is none, or more than one.
    """
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
    refuse_strange_keys(file, [name for name, key in keys.items() if key is None], len(keys))
    sides: dict[str, dict[Part, Tensor]] = {}
    alphas: dict[str, float] = {}
    for name, value in tensors.items():
        key = keys[name]
        assert key is not None
        if key.part == "alpha":
            alpha = _alpha(file, name, value)
            if alphas.get(key.module, alpha) != alpha:
                raise AdapterError(f"{file} holds two alphas of {key.module}, under different names; export it again")
            if alpha or not key.kohya:  # kohya reads 0 as "not given"
                alphas[key.module] = alpha
        elif key.part in sides.setdefault(key.module, {}):
            raise AdapterError(f"{file} holds {key.module} twice, under different names; export it again")
        else:
            sides[key.module][key.part] = in_float(file, name, value)
    if not sides:
        raise AdapterError(f"{file} holds no LoRA factors")
    return sides, alphas


def _alpha(file: Path, name: str, value: Tensor) -> float:
    if value.numel() != 1 or value.is_complex():
        shape, stored = tuple(value.shape), str(value.dtype).removeprefix("torch.")
        raise AdapterError(f"{file}: {name} is of shape {shape} in {stored}, not one real number; export it again")
    return float(value)


def _factors(
    where: str, module: str, pair: Mapping[Part, Tensor], alpha: float | None, stated: StatedStrength
) -> Factors:
    """A module's update, with alpha from its tensor, from what the file states, or as its readers take it."""
    sides = {str(side): value for side, value in pair.items()}
    made = factors_of(module, sides, 1.0 if alpha is None else alpha, where)
    rank, strength = stated.rank(module, made), stated.alpha(module, made)
    if rank is not None and rank.value != made.rank:
        raise AdapterError(
            f"{where}{module} is of rank {made.rank}, its configuration says {rank.value:g} ({rank.place}): the "
            "weights of one adapter beside the configuration of another. Copy or download both again"
        )
    if alpha is None:
        return Factors(made.a, made.b, stated.default_alpha(made.rank) if strength is None else strength.value)
    if strength is not None and not math.isclose(alpha, strength.value, rel_tol=SAME_ALPHA):
        raise AdapterError(
            f"{where}{module} has alpha {alpha:g} as a tensor and {strength.value:g} by {strength.place}: the strength "
            "of two adapters. Take out the one that is wrong, or export it again"
        )
    return made


def _refuse_missing_alphas(
    file: Path, found: Mapping[str, Factors], alphas: Mapping[str, float], stated: StatedStrength
) -> None:
    """Refuses a file with alpha for some modules only. Without any alpha all programs take alpha = rank. If there are
    some, the others were lost, and with them their scale."""
    missing = sorted(module for module in set(found) - set(alphas) if stated.alpha(module, found[module]) is None)
    if alphas and missing and stated.whole is None:
        raise AdapterError(
            f"{file} gives alpha for {len(alphas)} of {len(found)} modules, and none for {missing[0]}: how strongly it "
            "changes that one is lost. Export it again, or write the missing alphas"
        )
