"""Tensors that lie on many ranks, as files: every rank writes and reads its own parts (torch.distributed.checkpoint).

The files are safetensors, whose headers say which part of a tensor they hold; there is no pickle among them. Any number
of ranks reads what any other number wrote, each only what it needs.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

FOLDER = "shards"  # in a checkpoint

TensorsByStem = dict[str, dict[str, Tensor]]
TemplateLookup = Callable[[str, str], Tensor | None]
"""Of a stem and a name: a tensor that lies as this one is wanted; None: whole."""


def write_shards(place: Path, tensors: Mapping[str, Mapping[str, Tensor]], group: ProcessGroup) -> Future[Any]:
    """Begins to write: tensors are copied before this returns and may change then. All ranks call it, with a group of
    their own for it; tensors that are whole on all ranks are written by one. The future is done when this rank's files
    are there."""
    flat = {f"{stem}/{name}": tensor.detach() for stem, named in tensors.items() for name, tensor in named.items()}
    writer = HuggingFaceStorageWriter(str(place / FOLDER), save_distributed=True)
    begun = dcp.async_save(flat, storage_writer=writer, process_group=group)
    assert isinstance(begun, Future)
    return begun


def read_shards(
    place: Path, device: torch.device | str, template: TemplateLookup, stems: Collection[str] | None
) -> TensorsByStem:
    """
    Args:
        stems: which to read; None: all.
    """
    reader = HuggingFaceStorageReader(str(place / FOLDER))
    wanted: dict[str, Tensor] = {}
    for key, held in reader.read_metadata().state_dict_metadata.items():
        stem, name = key.split("/", 1)
        if stems is None or stem in stems:
            like = template(stem, name)
            size, dtype = held.size, held.properties.dtype  # type: ignore[union-attr]
            wanted[key] = (
                torch.empty(size, dtype=dtype, device=device) if like is None else torch.empty_like(like, dtype=dtype)
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # reading takes no agreement
        dcp.load(wanted, storage_reader=reader, no_dist=True)
    found: TensorsByStem = {}
    for key, value in wanted.items():
        stem, name = key.split("/", 1)
        found.setdefault(stem, {})[name] = value
    return found
