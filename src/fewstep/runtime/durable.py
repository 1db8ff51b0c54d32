"""Files that are either complete or absent.

A file is written under a temporary name, synced, and renamed. After a kill or on a full disk there is the old file, the
new one, or none, but never half of one. A line is appended by a single write, and synced. An incomplete line is skipped
when the file is read; what is appended after it marks it as cut off (`CUT_OFF`), so that it can be told from a line
that was damaged later.
"""

import contextlib
import errno
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fewstep.runtime.errors import EnvironmentRefused
from fewstep.runtime.strict_json import load_json

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CUT_OFF = b"\x18"  # ends a line that a kill or a full disk left incomplete; ASCII calls it CANCEL, JSON has no such
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def refusal(path: Path, error: Exception) -> EnvironmentRefused:
    """The error to raise when `path` cannot be written."""
    error = system_error(error)
    if error.errno in _FULL:
        return EnvironmentRefused(
            f"{path} cannot be written: {error.strerror}. Free some space, or choose another disk"
        )
    if error.errno in _FORBIDDEN:
        return EnvironmentRefused(f"{path} cannot be written: {error.strerror}. Choose a folder you may write to")
    return EnvironmentRefused(f"{path} cannot be written: {error.strerror or error}")


def system_error(error: Exception) -> OSError:
    """The system's error behind a library's own message, such as those of safetensors ("... (os error 28)") and shutil
    ("[Errno 28] ...")."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    told = re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", str(error))
    number = int(told[1] or told[2]) if told else None
    return OSError(str(error)) if number is None else OSError(number, os.strerror(number))


def make_folder(folder: Path) -> None:
    """Creates the folder and its parents, if they do not exist.

    Raises:
        EnvironmentRefused: it cannot be created, or there is a file of that name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(folder, error) from error


def refuse_unwritable(path: Path) -> None:
    """Tries whether the file can be written, and leaves nothing: for results that long work comes before.

    Raises:
        EnvironmentRefused: it cannot: no permission, a folder or too long a name in its place, a file above it.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(path.stat().st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        above = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise refusal(path, error) from error


def as_umask_says(path: Path) -> None:
    """Gives a file the mode of any other that this process creates. safetensors makes files that only their owner can
    read (0600), whatever the umask is."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def replace_atomically(path: Path, write: Callable[[Path], None], *, synced: bool = True) -> None:
    """Replaces `path` by what `write` writes.

    Args:
        write: gets a temporary path in the same folder, which ends in .tmp.
        synced: without it a power cut (not a kill) may leave an incomplete file. For many files whose hash is checked.

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
    """Replaces `path` by exactly this content; see `replace_atomically`."""
    data = content.encode() if isinstance(content, str) else content
    replace_atomically(path, lambda beside: _written(beside, data))


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Appends one JSON record to `path`, and syncs it before returning.

    A number that is not finite becomes null, since JSON has none. After an incomplete line a new line is begun. It is
    one write in append mode, so several processes can share the file.

    Raises:
        EnvironmentRefused: no space, or no permission.
    """
    line = (json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = CUT_OFF + b"\n" + line
            written = os.write(handle, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise refusal(path, error) from error


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON records of `path`, without incomplete and empty lines. No records if there is no file."""
    yield from (record for _, record in numbered_records(path) if record is not None)


def numbered_records(
    path: Path, cut_off: Callable[[int], object] | None = None
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The JSON records of `path` with the numbers of their lines, from 1; None in place of a line that is no record.
    Nothing if there is no file.

    Args:
        cut_off: is called with the number of each line that a kill or a full disk left incomplete: the last one, or one
            that is marked. Such lines are then not yielded.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        record = _record_of(line)
        if record is None and not line.strip():
            continue
        if record is None and cut_off is not None and (number == len(lines) or line.endswith(CUT_OFF)):
            cut_off(number)
        else:
            yield number, record


def _record_of(line: bytes) -> dict[str, Any] | None:
    try:
        record = load_json(line)
    except ValueError:  # also UnicodeDecodeError: a line cut within a character
        return None
    return record if isinstance(record, dict) else None


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
