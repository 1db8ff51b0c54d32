"""The first cases of an archive (WebDataset tar, parquet), without unpacking it for a run.

Its pictures are written into the user's cache under names that follow from their bytes (`data/formats/extracted.py`):
no name of a member becomes a path. How many cases are read, how many bytes their pictures have, and for how long, are
bounded; the page says where the reading ended.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fewstep.data.cases import Case, CaseOrError
from fewstep.data.formats.format import ReadingEnded
from fewstep.data.sources import entries
from fewstep.runtime.user_cache import user_cache

MOST_CASES = 2_000  # ours, and so are the other bounds
MOST_BYTES = 2**30  # of one archive's pictures
MOST_SECONDS = 45.0  # within a case of a tar too, and between those of other archives
MOST_ARCHIVES = 8  # in the cache; the ones that were not opened for longest go


def archives_folder() -> Path:
    return user_cache() / "studio" / "archives"


def first_entries(path: Path) -> Iterator[CaseOrError | str]:
    """The cases and errors of an archive in order; a text where the reading ended before its end.

    Raises:
        CaseError, EnvironmentRefused: as `entries`.
    """
    told = path.stat()
    name = hashlib.blake2b(repr((str(path), told.st_size, told.st_mtime_ns)).encode(), digest_size=12).hexdigest()
    folder = archives_folder() / name
    _forget_old(folder)
    folder.mkdir(parents=True, exist_ok=True)
    until, seen, counted, number = time.monotonic() + MOST_SECONDS, set[Path](), 0, 0

    def in_time() -> None:  # within a case too, and among members that belong to none
        if time.monotonic() > until:
            raise ReadingEnded

    try:
        for number, entry in enumerate(entries(path, folder, on_read=in_time), 1):
            yield entry
            for picture in _pictures(entry) - seen:
                seen.add(picture)
                counted += picture.stat().st_size
            if number >= MOST_CASES:
                yield f"the first {number:,} cases of the archive"
                return
            if counted > MOST_BYTES:
                yield _ended(number, f"{MOST_BYTES >> 20:,} MiB of pictures")
                return
            in_time()  # formats that cannot be watched
    except ReadingEnded:
        yield _ended(number, f"{MOST_SECONDS:.0f} seconds")


def _ended(number: int, bound: str) -> str:
    return f"the first {number:,} cases of the archive: reading ends after {bound}"


def _pictures(entry: CaseOrError) -> set[Path]:
    if not isinstance(entry, Case):
        return set()
    return {*entry.references, *([entry.target] if entry.target else [])}


def _forget_old(kept: Path) -> None:
    """Marks one archive as used, and removes those beyond MOST_ARCHIVES."""
    with suppress(OSError):
        if kept.is_dir():
            kept.touch()
        found = [path for path in archives_folder().iterdir() if path.is_dir() and path != kept]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in found[MOST_ARCHIVES - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
