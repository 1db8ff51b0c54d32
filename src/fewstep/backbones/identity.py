"""Short hashes of what determines a conditioning: text encoder, processor and VAE.

They are read from the folder. So no model is loaded, and they do not depend on dtype or device. Weights are identified
by their headers and by samples of their bytes, which distinguishes any two trainings in milliseconds. The hash does not
depend on how weights are divided into files, or on config fields that only record who wrote them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewstep.backbones.folder import (
    header_of,
    read_json,
    weight_files,
)

TENSORS, BYTES = 16, 4096  # sampled tensors a part, bytes of each
_CLERICAL = ("transformers_version", "torch_dtype", "dtype")


def digest(pieces: Iterable[bytes]) -> str:
    """A hash of the pieces, as 16 hexadecimal digits. The length of each piece is part of it."""
    h = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        h.update(len(piece).to_bytes(8, "little") + piece)
    return h.hexdigest()


def config_identity(config: Mapping[str, Any]) -> bytes:
    """A config in a canonical spelling, without the fields that only record who wrote it."""
    return json.dumps(_plain(config), sort_keys=True, default=str).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if not str(k).startswith("_") and k not in _CLERICAL}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def part_identity(part: Path, stem: str) -> list[bytes]:
    """The identity of a part with weights: its config, the names, dtypes and shapes of all tensors, and samples of
    some."""
    tensors = {name: (file, entry) for file in weight_files(part, stem) for name, entry in header_of(file).items()}
    names = sorted(tensors)
    outline = [(name, tensors[name][1]["dtype"], tensors[name][1]["shape"]) for name in names]
    samples = [_sample(*tensors[name]) for name in _spread(names)]
    return [config_identity(read_json(part / "config.json")), json.dumps(outline).encode(), *samples]


def _spread(names: list[str]) -> list[str]:
    return names[:: max(1, len(names) // TENSORS)]


def _sample(file: Path, entry: Mapping[str, Any]) -> bytes:
    """The first bytes of one tensor, and the last."""
    start, end = entry["data_offsets"]
    length = min(BYTES, end - start)
    with file.open("rb") as stream:
        data_start = 8 + int.from_bytes(stream.read(8), "little")
        stream.seek(data_start + start)
        head = stream.read(length)
        stream.seek(data_start + end - length)
        return head + stream.read(length)


def files_identity(part: Path) -> list[bytes]:
    """The identity of a part without weights (processor, tokenizer): the names and contents of its files."""
    files = sorted(file for file in part.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [piece for file in files for piece in (file.name.encode(), file.read_bytes())]


def module_identity(module: nn.Module) -> list[bytes]:
    """The identity of a module in memory: the names and shapes of all tensors, and samples of some."""
    state = module.state_dict()
    outline = [(name, list(state[name].shape)) for name in sorted(state)]
    samples = [state[name].flatten()[:BYTES].to("cpu", torch.float32) for name in _spread(sorted(state))]
    return [json.dumps(outline).encode(), *(sample.numpy().tobytes() for sample in samples)]


def tokenizer_identity(tokenizer: Any) -> bytes:
    """The identity of a fast tokenizer in memory, with its chat template. Padding and truncation are left out, because
    they are those of its last call."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: value for key, value in content.items() if key not in ("padding", "truncation")}
    return json.dumps([kept, tokenizer.chat_template], sort_keys=True).encode()
