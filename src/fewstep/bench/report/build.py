"""`fewstep bench report`: galleries in, one static folder out."""

from collections.abc import Sequence
from pathlib import Path

from fewstep.bench.report.content import page_of
from fewstep.bench.report.groups import (
    GalleryGroup,
    group_galleries,
    names_of,
)
from fewstep.bench.report.page import OWN, write_report
from fewstep.bench.report.pictures import Album, PictureMode
from fewstep.bench.report.rows import Rows, measures_of
from fewstep.bench.report.systems import open_system
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError
from fewstep.runtime.reporter import SILENT, Reporter


def build_report(
    folders: Sequence[Path],
    to: Path,
    reporter: Reporter = SILENT,
    *,
    reference: str | None = None,
    keep: PictureMode = PictureMode.COPIED,
    margin: float = 0.0,
) -> Path:
    """Writes the report and returns its page. The same command again continues it, or replaces an earlier report.

    Args:
        margin: a difference of scores below it does not matter.

    Raises:
        GalleryError: galleries that cannot be read or compared, or a folder that holds something else.
        JudgeError: malformed verdicts.
    """
    _refuse_foreign(to)
    groups = group_galleries([open_system(folder) for folder in folders], reference)
    durable.make_folder(to)
    album = Album(to, keep)
    album.make_folders()
    with reporter.waiting("ranks and intervals"):
        page = page_of(groups, margin)
    rows = _rows(groups, album, reporter)
    written = write_report(page, rows.data(), to)
    album.sweep()
    return written


def _rows(groups: Sequence[GalleryGroup], album: Album, reporter: Reporter) -> Rows:
    rows = Rows(names_of(groups), measures_of(groups), album)
    answered = [(group, key) for group in groups for key in group.answered]
    with reporter.progress(f"pictures into {album.folder}", len(answered)) as advance:
        for group, key in answered:
            rows.add(group, key)
            advance()
    return rows


def _refuse_foreign(to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise GalleryError(f"{to} is a file; name a folder for the report")
    strange = sorted(path.name for path in to.iterdir() if path.name not in OWN) if to.is_dir() else []
    strange = [name for name in strange if not (name.startswith(".") and name.endswith(".tmp"))]
    if strange:
        raise GalleryError(f"{to} holds other things ({', '.join(strange[:5])}); name a new folder for the report")
