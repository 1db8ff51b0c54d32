"""The lines of a gallery's manifest. A gallery may come from another machine, and what its manifest names is opened,
copied into reports and sent to judges. So a line is checked before it is followed, and its picture lies in the gallery.
"""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fewstep.bench.lines import LineFields, mistyped
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError

ManifestRow = dict[str, Any]
DRAWN, FAILED = "drawn", "failed"
FIELDS: LineFields = {
    "case": "text",
    "seed": "whole",
    "status": "text?",
    "file": "text?",
    "why": "text?",
    "prompt": "text?",
    "task": "text?",
    "category": "text?",
}
REMEDY = "mend or remove the line, and draw or adopt what is missing by the same command"


def read_manifest(path: Path, folder: Path, cut_off: Callable[[int], object]) -> Iterator[ManifestRow]:
    """The rows of one manifest of the gallery in `folder`.

    Args:
        cut_off: is called with the number of each line that a kill left incomplete. It is no row: its picture is
            missing, and the same command draws it.

    Raises:
        GalleryError: a line that is no record, of wrong types, or whose picture lies outside the gallery. Names it.
    """
    for number, row in durable.numbered_records(path, cut_off):
        where = f"{path}:{number}"
        if row is None:
            raise GalleryError(f"{where}: the line is no record; {REMEDY}")
        if wrong := mistyped(row, FIELDS):
            raise GalleryError(f"{where}: {wrong}; {REMEDY}")
        status = row.get("status") or DRAWN
        if status not in (DRAWN, FAILED):
            raise GalleryError(f"{where}: status is {status!r:.40}, neither {DRAWN} nor {FAILED}; {REMEDY}")
        if status == DRAWN:
            if row.get("file") is None:
                raise GalleryError(f"{where}: lacks file, the picture's name; {REMEDY}")
            refuse_outside(folder, row["file"], where)
        yield row


def refuse_outside(folder: Path, name: str, where: str) -> None:
    """
    Raises:
        GalleryError: `name` is absolute, climbs out of `folder`, or follows a link out of it.
    """
    told = PurePosixPath(name)
    if told.is_absolute() or ".." in told.parts or "\\" in name or not told.parts:
        raise GalleryError(f"{where}: {name!r:.80} does not lie in the gallery; {REMEDY}")
    try:
        real = (folder / told).resolve()
        inside = real.is_relative_to(folder.resolve())
        real.is_file()  # asks the file system, which knows how long a name may be
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, links in a circle, a NUL
        raise GalleryError(f"{where}: {name!r:.80} can be no picture's name ({error!s:.80}); {REMEDY}") from error
    if not inside:
        raise GalleryError(
            f"{where}: {name!r:.80} is a link that leaves the gallery, to {real}; put the picture itself there"
        )
