"""Writes a student's whole transformer as one file with ComfyUI's names, for its models/diffusion_models/.

It is made from the files of the student folder, so both have the same weights, bit for bit. One tensor is in memory at
a time, so the file may be larger than the machine's memory.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fewstep.backbones.folder import (
    header_of,
    read_json,
    weight_files,
)
from fewstep.export import comfyui
from fewstep.export.weights import STEM
from fewstep.lora.comfyui_layout import comfyui_modules, modules_of

BYTES = {"F32": 4, "BF16": 2, "F16": 2}
# An empty tensor by which ComfyUI knows models whose references are modulated with t = 0 (Qwen-Image-Edit-2511).
MARKERS = {"zero_cond_t": "__index_timestep_zero__"}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of the new file. parts: the old tensors whose rows it holds. swapped: its two halves are exchanged."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[str, ...] = ()
    swapped: bool = False

    @property
    def size(self) -> int:
        """The size in bytes."""
        return BYTES[self.dtype] * prod(self.shape)


def write_single_file(transformer: Path, to: Path) -> Path:
    """Writes the file. transformer: a folder with config.json and weights, of a known layout
    (`comfyui.refuse_unknown`)."""
    files = weight_files(transformer, STEM)
    held = {name: (file, entry) for file in files for name, entry in header_of(file).items()}
    entries = _entries({name: entry for name, (_, entry) in held.items()})
    config = read_json(transformer / "config.json")
    entries |= {marker: TensorEntry("F32", (0,)) for key, marker in MARKERS.items() if config.get(key)}
    to.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened, to.open("wb") as stream:
        readers = {file: opened.enter_context(safe_open(file, framework="pt")) for file in files}
        stream.write(_head(entries))
        for entry in entries.values():
            for rows in _ordered([readers[held[part][0]].get_tensor(part) for part in entry.parts], entry.swapped):
                stream.write(rows.contiguous().view(torch.uint8).numpy().data)
    return to


def single_file_of(student: Path) -> Path | None:
    """The single file in a student folder's comfyui/; None if there is none."""
    found = (student / comfyui.FOLDER).glob(comfyui.MODEL_FILE.format(name="*"))
    return next((file for file in found if not file.match(comfyui.LORA_FILE.format(name="*"))), None)


def _entries(header: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorEntry]:
    """The tensors of the new file by name."""
    found: dict[str, TensorEntry] = {}
    for module, one in comfyui_modules(modules_of(header)).items():
        for kind, called in (("weight", one.weight), ("bias", "bias")):
            parts = tuple(f"{part}.{kind}" for part in one.parts)
            if parts[0] in header:
                shapes = [tuple(header[part]["shape"]) for part in parts]
                shape = (sum(rows for rows, *_ in shapes), *shapes[0][1:])
                found[f"{module}.{called}"] = TensorEntry(header[parts[0]]["dtype"], shape, parts, one.swapped)
    for name in (name for name in header if "." not in name):  # parameters of the transformer itself
        found[name] = TensorEntry(header[name]["dtype"], tuple(header[name]["shape"]), (name,))
    return dict(sorted(found.items()))


def _ordered(parts: list[Tensor], swapped: bool) -> Iterator[Tensor]:
    yield from parts[0].chunk(2)[::-1] if swapped else parts


def _head(entries: Mapping[str, TensorEntry]) -> bytes:
    """The header of a safetensors file (its length, then JSON), padded to 8 bytes as the format requires."""
    head_json: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, entry in entries.items():
        head_json[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [end, end + entry.size]}
        end += entry.size
    words = json.dumps(head_json, separators=(",", ":")).encode()
    words = words.ljust(-(-len(words) // 8) * 8)
    return struct.pack("<Q", len(words)) + words
