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
LARGE_ROUNDING = 0.4  # ours: of the update, by norm; up to 0.35 pictures lost under 2 % of it (docs/export.md)


@dataclass(frozen=True)
class Rounding:
    """The rounding error of the stored weights: |stored - exact| / |update|, Frobenius norms over all that learnt. It
    is 0 in float32.

    Rounding goes in all directions and an update in a few, so pictures lose far less than this share. An update of a
    few small steps is lost all the same: a weight of 0.02 in bfloat16 has neighbours 1e-4 apart.
    """

    relative: float

    @property
    def is_large(self) -> bool:
        """Whether the student should be shipped in another form."""
        return self.relative > LARGE_ROUNDING


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
    norms = _Norms()

    def with_update(name: str, weight: Tensor) -> Tensor:
        update = lora.updates.get(name.removesuffix(".weight"))
        if update is None or not name.endswith(".weight"):
            return weight.to(dtype)
        exact = merged(weight, update, name)
        stored = exact.to(dtype)
        norms.add(stored.float() - exact, update.delta())
        return stored

    _write(to, ((file, {n: with_update(n, w) for n, w in part.items()}) for file, part in _read(base)))
    return norms.rounding


class _Norms:
    """Squared norms of what rounding changed, and of what was learnt, added up over tensors."""

    def __init__(self) -> None:
        self.lost = self.learnt = 0.0

    def add(self, lost: Tensor, learnt: Tensor) -> None:
        self.lost += float(lost.double().square().sum())
        self.learnt += float(learnt.double().square().sum())

    @property
    def rounding(self) -> Rounding:
        return Rounding((self.lost / self.learnt) ** 0.5 if self.learnt else 0.0)


def write_full(base: Path, to: Path, state: Mapping[str, Tensor], dtype: torch.dtype) -> Rounding:
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

    norms = _Norms()

    def replaced(name: str, weight: Tensor) -> Tensor:
        new = state[name].detach().cpu()
        if new.shape != weight.shape:
            raise ExportError(f"{name}: the student has {tuple(new.shape)}, the base {tuple(weight.shape)}")
        if not torch.isfinite(new).all():
            raise ExportError(f"{name} holds values that are not finite; export an earlier checkpoint")
        stored = new.to(dtype)
        norms.add(stored.float() - new.float(), new.float() - weight.float())
        return stored

    _write(to, ((file, {n: replaced(n, w) for n, w in part.items()}) for file, part in _read(base)))
    return norms.rounding


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
