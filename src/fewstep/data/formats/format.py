"""What a format of case files is: a function from a path to entries. An entry is a case, or the error in its place.

So one reader serves a run, which stops at errors, `cases check`, which counts them, and `cases convert`. `thorough`
asks for every picture to be read whole. If the whole file is unreadable, a CaseError is raised.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.cases import CaseOrError


@dataclass(frozen=True)
class FileFormat:
    """A file that names its pictures. read(path, thorough)."""

    read: Callable[[Path, bool], Iterator[CaseOrError]]


OnRead = Callable[[], object]
"""Called each time that bytes are read. It may raise ReadingEnded."""


class ReadingEnded(Exception):
    """Raised by `OnRead` to end the reading within an entry. No fault of the file."""


@dataclass(frozen=True)
class ArchiveFormat:
    """A file that holds its pictures, which are written into a folder. read(path, folder, thorough).

    watched: the same with an `OnRead`, for who bounds the time of reading. Without it time is bounded between entries.
    """

    read: Callable[[Path, Path, bool], Iterator[CaseOrError]]
    watched: Callable[[Path, Path, bool, OnRead], Iterator[CaseOrError]] | None = None


CaseFormat = FileFormat | ArchiveFormat
