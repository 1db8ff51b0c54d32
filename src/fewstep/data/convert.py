"""`fewstep cases convert`: any source as the canonical JSONL."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from fewstep.data.cases import (
    Case,
    CaseOrError,
    write_jsonl,
)
from fewstep.data.sources import cases_of, entries_of
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError


def convert(source: str, to: Path, on_progress: Callable[[int], object] = lambda count: None) -> list[Case]:
    """Writes `to`, whole or not at all. Pictures stay where they are; their paths are relative to `to` if they lie
    beside or below it. Pictures from archives and from the pocket world go into a folder beside `to`. on_progress:
    called with the number of entries read.

    Raises:
        CaseError: `to` exists already or is no .jsonl, or the source has bad lines (the first ones are named).
    """
    if to.suffix.lower() not in (".jsonl", ".ndjson"):
        raise CaseError(f"{to}: the canonical format is JSON Lines; name a file that ends in .jsonl")
    if _is_there(to):
        raise CaseError(f"{to}: is there already; choose another name, or remove it first")
    to = to.absolute()
    pictures = pictures_folder(to)
    held_before = pictures.exists()
    try:
        cases = cases_of(_counted(entries_of(source, pictures, thorough=True), on_progress), source)
        if not cases:
            raise CaseError(f"{source}: no case in it; name another source")
    except CaseError:
        if not held_before:
            shutil.rmtree(pictures, ignore_errors=True)
        raise
    durable.make_folder(to.parent)
    write_jsonl(to, cases)
    return cases


def _is_there(to: Path) -> bool:
    try:
        str(to).encode()
        return to.exists()
    except UnicodeEncodeError as error:
        raise CaseError(f"{to}: the name is not UTF-8; choose another") from error
    except OSError as error:  # a name too long for a file system
        raise CaseError(f"{to!s:.80}: cannot be written ({error.strerror}); choose another name") from error


def pictures_folder(to: Path) -> Path:
    """The folder for pictures that have no file of their own: beside `to`, under its name."""
    return to.with_name(f"{to.stem}-pictures")


def _counted(found: Iterator[CaseOrError], on_progress: Callable[[int], object]) -> Iterator[CaseOrError]:
    for count, entry in enumerate(found, start=1):
        on_progress(count)
        yield entry
