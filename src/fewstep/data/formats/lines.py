"""Files of lines: .jsonl, one case a line, and .txt, one prompt a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewstep.data.cases import (
    Case,
    CaseOrError,
    case_of,
    prompt_of,
)
from fewstep.runtime.errors import CaseError

UTF16 = (b"\xff\xfe", b"\xfe\xff")
MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors put before UTF-8


def jsonl(path: Path, thorough: bool) -> Iterator[CaseOrError]:
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        if isinstance(line, CaseError):
            yield line
            continue
        try:
            yield case_of(record_of_json(line, where), path.parent, where, f"{path.stem}-{number}", thorough)
        except CaseError as error:
            yield error


def txt(path: Path, thorough: bool) -> Iterator[CaseOrError]:
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        try:
            if isinstance(line, CaseError):
                raise line
            yield Case(f"{path.stem}-{number}", "t2i", prompt_of(line, where), where=where)
        except CaseError as error:
            yield error


def numbered_lines(path: Path) -> Iterator[tuple[int, str | CaseError]]:
    """The lines that are not blank, with their numbers; an error in place of a line that is not UTF-8.

    Raises:
        CaseError: no such file, unreadable, or of another encoding as a whole.
    """
    for number, line in enumerate(bytes_of(path).split(b"\n"), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield number, not_utf8(f"{path}:{number}", line, error.start)
            continue
        if text:
            yield number, text


def text_of(path: Path) -> str:
    """A whole file as text.

    Raises:
        CaseError: as `numbered_lines`; names the first line that is not UTF-8.
    """
    data = bytes_of(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        begun = data.rfind(b"\n", 0, error.start) + 1
        number = data.count(b"\n", 0, error.start) + 1
        raise not_utf8(f"{path}:{number}", data[begun:], error.start - begun) from error


def bytes_of(path: Path) -> bytes:
    """The file's content without its byte order mark.

    Raises:
        CaseError: no such file, unreadable, or UTF-16.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}); name a file that is there") from error
    if data.startswith(UTF16):
        raise CaseError(f"{path}: is UTF-16; save it as UTF-8")
    return data.removeprefix(MARK)


def not_utf8(where: str, line: bytes, position: int) -> CaseError:
    return CaseError(
        f"{where}: byte {position + 1} of the line (0x{line[position]:02x}) is not UTF-8; save the whole file as UTF-8"
    )


def record_of_json(text: str, where: str) -> dict[str, Any]:
    """One JSON object. Doubled keys and numbers that JSON does not have (NaN, Infinity) are refused.

    Raises:
        CaseError: anything else, torn lines among it.
    """
    try:
        record = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        if text.startswith("[") and where.endswith(":1"):
            raise CaseError(f"{where}: the file is one JSON array; write one object a line (JSON Lines)") from error
        raise CaseError(f"{where}: torn or no JSON at column {error.colno} ({error.msg}); mend or remove it") from error
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{where}: {error or 'nested too deeply'}; mend or remove the line") from error
    if not isinstance(record, dict):
        raise CaseError(f"{where}: a line holds one object in braces, not {text:.40}")
    return record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        twice = next(key for key in record if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"key {twice!r:.60} stands there twice")
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
