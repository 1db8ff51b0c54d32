"""Writes the transformer's weight files of a student, from those of the base, one file at a time.

Only one file is in memory. So a student of a large base can be exported on a machine that could not run it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.backbones.folder import header_of, weight_files
from fewstep.export.lora import Lora
from fewstep.lora.factors import merged
from fewstep.runtime.durable import as_umask_says
from fewstep.runtime.errors import AdapterError, ExportError

STEM = "diffusion_pytorch_model"


@dataclass(frozen=True)
class Rounding:
    """The rounding error of the stored merged weights: |stored - exact| / |update|, Frobenius norms over all merged
    modules. It is 0 in float32. Above 1, more was lost than learned, and the LoRA should be shipped instead."""

    relative: float


def write_merged(base: Path, to: Path, lora: Lora, dtype: torch.dtype) -> Rounding:
    """Writes the base's weights with the update merged in float32, and then stored as `dtype`.

    Raises:
        AdapterError: the update names a module that the base does not have.
    """
    names = _names(base)
    unknown = [module for module in lora.updates if f"{module}.weight" not in names]
    if unknown:
        raise AdapterError(
            f"the adapter changes {unknown[0]} (and {len(unknown) - 1} more), which {base} does not have; "
            "it was trained on another base"
        )
    lost = learned = 0.0

    def with_update(name: str, weight: Tensor) -> Tensor:
        nonlocal lost, learned
        update = lora.updates.get(name.removesuffix(".weight"))
        if update is None or not name.endswith(".weight"):
            return weight.to(dtype)
        exact = merged(weight, update, name)
        stored = exact.to(dtype)
        lost += float((stored.float() - exact).double().square().sum())
        learned += float(update.delta().double().square().sum())
        return stored

    _write(to, ((file, {n: with_update(n, w) for n, w in part.items()}) for file, part in _read(base)))
    return Rounding((lost / learned) ** 0.5 if learned else 0.0)


def write_full(base: Path, to: Path, state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Writes a whole state dict, divided into files as the base's is.

    Raises:
        ExportError: names or shapes differ from those of the base, or values are not finite.
    """
    names = _names(base)
    if set(state) != names:
        raise ExportError(
            f"these are not the weights of {base}: missing {sorted(names - set(state))[:3]}, "
            f"unknown {sorted(set(state) - names)[:3]}. Give the state dict of the transformer itself"
        )

    def replaced(name: str, weight: Tensor) -> Tensor:
        new = state[name].detach().cpu()
        if new.shape != weight.shape:
            raise ExportError(f"{name}: the student has {tuple(new.shape)}, the base {tuple(weight.shape)}")
        if not torch.isfinite(new).all():
            raise ExportError(f"{name} holds values that are not finite; export an earlier checkpoint")
        return new.to(dtype)

    _write(to, ((file, {n: replaced(n, w) for n, w in part.items()}) for file, part in _read(base)))


def _names(folder: Path) -> set[str]:
    return {name for file in weight_files(folder, STEM) for name in header_of(file)}


def _read(folder: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(file name, its tensors), one file at a time."""
    for path in weight_files(folder, STEM):
        yield path.name, load_file(path)


def _write(folder: Path, parts: Iterator[tuple[str, dict[str, Tensor]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    size = 0
    for file, tensors in parts:
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / file, metadata={"format": "pt"})
        as_umask_says(folder / file)
        places |= dict.fromkeys(tensors, file)
        size += sum(t.numel() * t.element_size() for t in tensors.values())
    if set(places.values()) != {f"{STEM}.safetensors"}:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (folder / f"{STEM}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
