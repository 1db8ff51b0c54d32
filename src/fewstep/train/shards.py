"""Files of sharded tensors: every rank writes and reads its own shards (torch.distributed.checkpoint).

The files are safetensors, without any pickle. Their headers tell which part of a tensor they hold. Any number of ranks
can read what another number of ranks wrote, and each reads only what it needs.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

FOLDER = "shards"  # in a checkpoint
APART = "student_average"  # the stem that every rank writes into a file of its own, so that it can be kept alone

TensorsByStem = dict[str, dict[str, Tensor]]
TemplateLookup = Callable[[str, str], Tensor | None]
"""For a stem and a name, a tensor placed on the ranks as this one is wanted; None means whole."""


def write_shards(place: Path, tensors: Mapping[str, Mapping[str, Tensor]], group: ProcessGroup) -> Future[Any]:
    """Starts to write. All ranks call it.

    Tensors are copied before it returns, so they may change afterwards. Replicated tensors are written by one rank.

    Args:
        tensors: by file stem and name.
        group: a process group that is used for nothing else.

    Returns:
        A future that is done when this rank's files are written.
    """
    flat = {f"{stem}/{name}": tensor.detach() for stem, named in tensors.items() for name, tensor in named.items()}
    index = {name: 2 if name.startswith(f"{APART}/") else 1 for name in flat}
    writer = HuggingFaceStorageWriter(str(place / FOLDER), fqn_to_index_mapping=index, save_distributed=True)
    begun = dcp.async_save(flat, storage_writer=writer, process_group=group)
    assert isinstance(begun, Future)
    return begun


def files_of_stem(place: Path, stem: str) -> list[str]:
    """The files of a sharded checkpoint that hold this stem and nothing else, relative to it. Empty where tensors of
    other stems share its files, as all did in earlier versions."""
    found = []
    for file in sorted((place / FOLDER).glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            names: list[str] = opened.keys()
        stems = {name.split("/", 1)[0] for name in names}
        if stems == {stem}:
            found.append(f"{FOLDER}/{file.name}")
        elif stem in stems:
            return []
    return found


def read_shards(
    place: Path, device: torch.device | str, template: TemplateLookup, stems: Collection[str] | None
) -> TensorsByStem:
    """Tensors by file stem and name.

    Args:
        template: how each tensor is to be placed on the ranks.
        stems: the file stems to read; None means all.
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
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # ranks read independently
        dcp.load(wanted, storage_reader=reader, no_dist=True)
    found: TensorsByStem = {}
    for key, value in wanted.items():
        stem, name = key.split("/", 1)
        found.setdefault(stem, {})[name] = value
    return found
