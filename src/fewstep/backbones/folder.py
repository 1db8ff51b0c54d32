"""Finds model folders on disk, and checks that they are complete before anything heavy is loaded.

A folder has the diffusers layout: an index (`read_index`), and one subfolder for each part. Weights are safetensors.
Pickled weights can run code when they are opened, so they are refused.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from fewstep.backbones.modular_index import plain_entries
from fewstep.runtime.errors import ModelError

SIGMAS_FILE = "sample_sigmas.json"
MODULAR_INDEX = "modular_model_index.json"
MODULAR_TRANSFORMERS = ("Flux3Transformer2DModel",)  # which no classic pipeline of diffusers has
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
TensorHeader = Mapping[str, Any]  # of one tensor in a safetensors file: dtype, shape, data_offsets
# Bytes of an element by its dtype in safetensors. Those of less than a byte, or newer ones, are not checked.
_BYTES = dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1) | dict.fromkeys(("I16", "U16", "F16", "BF16"), 2)
_BYTES |= dict.fromkeys(("I32", "U32", "F32"), 4) | dict.fromkeys(("I64", "U64", "F64"), 8)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FROM_HUB = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "README.md", "LICENSE*", "NOTICE*")


def folder_of(source: str | Path) -> Path:
    """The folder that `source` names. A hub id is downloaded into the Hugging Face cache, or found there.

    Raises:
        ModelError: neither a folder nor a hub id, or a hub id that cannot be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        a_run = (path / "checkpoints").is_dir() and (path / "recipe.yaml").is_file()
        if a_run and not has_index(path):
            done = has_index(path / "student")
            raise ModelError(
                f"{path} is a run; its student is {path / 'student'}"
                if done
                else f"{path} is a run that has no student yet; the command that began it goes on, and makes one"
            )
        return path
    if path.is_file():
        raise ModelError(
            f"{path} is a file. Give the model's folder in the diffusers layout (the one with model_index.json)"
        )
    if not is_hub_id(source):
        raise ModelError(f"no model at '{source}': not a folder here, and not a hub id (owner/name)")
    return _fetched(str(source))


def is_hub_id(source: str | Path) -> bool:
    """Whether it has the form owner/name."""
    return bool(_HUB_ID.fullmatch(str(source)))


def _fetched(hub_id: str) -> Path:
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FROM_HUB)))
    except Exception as error:  # whatever its client raises (and that changes): the model is not here
        raise ModelError(
            f"'{hub_id}' is no folder here, and as a hub id it cannot be fetched ({_first_line(error)}). "
            "Without network give a local folder in the diffusers layout; for a gated model run `hf auth login` first"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: the file is missing, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: the model folder is incomplete. Copy or download it again") from None
    except (ValueError, OSError, RecursionError) as error:  # the last: brackets nested too deeply
        raise ModelError(f"{path} cannot be read as JSON ({_first_line(error)}). Copy or download it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not a JSON object. Copy or download it again")
    return content


def read_index(folder: Path) -> dict[str, Any]:
    """What a folder says of its pipeline: its class, and [library, class] of each part. It is in model_index.json, or
    for a modular pipeline in modular_model_index.json.

    Raises:
        ModelError: there is neither, or it cannot be read.
    """
    file = index_file(folder)
    if not file.is_file():
        _refuse_modular(folder)
    return plain_entries(read_json(file))


def index_file(folder: Path) -> Path:
    """The file that `read_index` reads."""
    classic, modular = folder / "model_index.json", folder / MODULAR_INDEX
    return modular if modular.is_file() and not classic.is_file() else classic


def has_index(folder: Path) -> bool:
    """Whether a folder says which pipeline it holds."""
    return any((folder / name).is_file() for name in ("model_index.json", MODULAR_INDEX))


def _refuse_modular(folder: Path) -> None:
    """
    Raises:
        ModelError: a folder without an index holds a transformer that only modular pipelines have.
    """
    config = folder / "transformer" / "config.json"
    if not config.is_file() or read_json(config).get("_class_name") not in MODULAR_TRANSFORMERS:
        return
    raise ModelError(
        f"{folder / MODULAR_INDEX} is missing: {config.parent.name} holds a {read_json(config)['_class_name']}, which "
        "has a modular pipeline only, and its folder an index of that name. Copy or download the whole model again"
    )


def sample_sigmas(folder: Path) -> tuple[float, ...] | None:
    """The noise levels of a student's folder; None for a teacher.

    They are in its model_index.json if the stock class reads them there, or else in a file of their own.

    Raises:
        ModelError: there is no model_index.json, or the levels are not a list of numbers.
    """
    sigmas = read_index(folder).get("sample_sigmas")
    beside = folder / SIGMAS_FILE
    try:
        if sigmas is None and beside.is_file():
            sigmas = json.loads(beside.read_text(encoding="utf-8"))
        return None if sigmas is None else tuple(float(sigma) for sigma in sigmas)
    except (ValueError, TypeError, OSError) as error:
        raise ModelError(f"the noise levels of {folder} are no list of numbers; export the student again") from error


def weight_files(part: Path, stem: str) -> list[Path]:
    """The safetensors files of one part, after checking that all are there, that each has the length that its header
    says, and that an index lists exactly their tensors.

    Raises:
        ModelError: a file is missing, incomplete or pickled, or the index is of other files. The message names it.
    """
    single, index = part / f"{stem}.safetensors", part / f"{stem}.safetensors.index.json"
    listed = _listed(index) if index.is_file() else {}
    if not index.is_file() and not single.is_file():
        raise _without_weights(part, single)
    files = [part / name for name in sorted(set(listed.values()))] if index.is_file() else [single]
    if single.is_file() and single not in files:  # diffusers reads the one, transformers the other
        raise ModelError(
            f"{part} has {single.name} beside {index.name}, which lists other files: two savings lie over each other. "
            "Remove the older one"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        named = ", ".join(missing) or "every shard"
        raise ModelError(f"{part} lacks {named}, which {index.name} lists. Copy or download the missing files")
    found = {name: file.name for file in files for name in header_of(file)}
    if index.is_file() and found != listed:
        raise _stale_index(index, listed, found)
    return files


def _listed(index: Path) -> dict[str, str]:
    """The file name of each tensor in an index of shards."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(f, str) and Path(f).name == f for f in listed.values()):
        raise ModelError(f"{index} has no weight_map of tensors to files beside it. Copy or download it again")
    return listed


def _stale_index(index: Path, listed: Mapping[str, str], found: Mapping[str, str]) -> ModelError:
    odd = sorted(n for n in listed.keys() | found.keys() if listed.get(n) != found.get(n))
    at, said = found.get(odd[0], "no file"), listed.get(odd[0], "no file")
    return ModelError(
        f"{index} is not of the files beside it ({len(odd):,} tensors differ: {odd[0]} is in {at}, and listed in "
        f"{said}). Copy or download index and weights together"
    )


def _without_weights(part: Path, expected: Path) -> ModelError:
    pickled = sorted(file.name for file in part.glob("*") if file.suffix in PICKLED)
    if pickled:
        return ModelError(
            f"{part} has only pickled weights ({', '.join(pickled)}), which can run code when opened. "
            "Convert them where you trust them: save_pretrained(..., safe_serialization=True)"
        )
    return ModelError(f"{expected} is missing: the model folder is incomplete. Copy or download it again")


def header_of(file: Path) -> dict[str, TensorHeader]:
    """Name -> dtype, shape and offsets of every tensor in a safetensors file, after checking that the file is complete.

    Raises:
        ModelError: an incomplete download, a Git LFS pointer, or another format.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
        try:
            header = json.loads(stream.read(length)) if 0 < length <= size - 8 else None
        except (ValueError, RecursionError):
            header = None
    if isinstance(header, dict):
        header.pop("__metadata__", None)
    if not isinstance(header, dict) or not all(_is_entry(entry) for entry in header.values()):
        raise ModelError(f"{file} is not a whole safetensors file ({size} bytes). Copy or download it again")
    expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size != expected:
        raise ModelError(f"{file} is torn: {size} bytes of {expected}. Copy or download it again")
    if odd := _misplaced(header):
        raise ModelError(f"{file} has a header that contradicts itself, at {odd}. Copy or download it again")
    return header


def _misplaced(header: Mapping[str, TensorHeader]) -> str | None:
    """The first tensor that does not begin where the one before ends, or is not as long as its shape and dtype say."""
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (begin, stop), width = entry["data_offsets"], _BYTES.get(entry["dtype"])
        if begin != end or stop < begin or (width is not None and stop - begin != width * math.prod(entry["shape"])):
            return name
        end = stop
    return None


def _is_entry(entry: Any) -> bool:
    """Whether this describes a tensor, as the format has it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    return all(type(number) is int and number >= 0 for number in (*shape, *offsets))
