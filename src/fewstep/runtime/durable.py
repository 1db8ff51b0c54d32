"""Files that are whole or absent.

A file is written beside its place, synced, and renamed onto it: after a kill or a full disk there is the old file,
the new one, or none - never half of one. Lines are appended by one write, synced; a torn line is passed over when read.
"""

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fewstep.runtime.errors import EnvironmentRefused

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def refusal(path: Path, error: Exception) -> EnvironmentRefused:
    """What the user is told when `path` cannot be written."""
    error = system_error(error)
    if error.errno in _FULL:
        return EnvironmentRefused(
            f"{path} cannot be written: {error.strerror}. Free some space, or choose another disk"
        )
    if error.errno in _FORBIDDEN:
        return EnvironmentRefused(f"{path} cannot be written: {error.strerror}. Choose a folder you may write to")
    return EnvironmentRefused(f"{path} cannot be written: {error.strerror or error}")


def system_error(error: Exception) -> OSError:
    """The system's error that a library reports in words of its own, as safetensors ("... (os error 28)") and shutil
    ("[Errno 28] ...") do."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    told = re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", str(error))
    number = int(told[1] or told[2]) if told else None
    return OSError(str(error)) if number is None else OSError(number, os.strerror(number))


def make_folder(folder: Path) -> None:
    """The folder and its parents.

    Raises:
        EnvironmentRefused: it cannot be made, or a file stands in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(folder, error) from error


def replace_atomically(path: Path, write: Callable[[Path], None], *, synced: bool = True) -> None:
    """`path` as `write` makes it. `write` is handed a name in the same folder that ends in .tmp. Not synced, a power
    cut may tear it (a kill does not): for many files that a hash is checked against.

    Raises:
        EnvironmentRefused: no space, or no permission. Nothing of the new file is left.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        if synced:
            sync_to_disk(beside)
        os.replace(beside, path)
        if synced:
            sync_to_disk(path.parent)
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """`path` with exactly this content; see `replace_by`."""
    data = content.encode() if isinstance(content, str) else content
    replace_atomically(path, lambda beside: _written(beside, data))


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """One JSON record at the end of `path`, synced before this returns.

    A number that is not finite becomes null: JSON has no other. After a torn line it begins a new one. One write in
    append mode: several processes may share the file.

    Raises:
        EnvironmentRefused: no space, or no permission.
    """
    line = (json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            written = os.write(handle, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise refusal(path, error) from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON records of `path`, torn and empty lines passed over; nothing where there is no file."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:  # also UnicodeDecodeError: a line torn within a character
            continue
        if isinstance(record, dict):
            yield record


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _written(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)


def sync_to_disk(path: Path) -> None:
    """What is written to a file, or renamed in a folder, outlives a power cut from here on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
