"""The case files of a run, as the Data screen finds them: what its recipe names, or what the run made of it.

Only what lies in the given folders is read. A run folder that was copied may have its cases beside it: a file that is
not where the recipe says is looked for there, and the page says so.
"""

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.case_formats import format_of
from fewstep.data.formats.format import ArchiveFormat
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.run_view import RunView

MOST_BYTES = 400 * 2**20  # of a file that is read whole
MOST_SHARDS = 64  # of one pattern
ABOVE = 2  # folders above a run in which its cases are looked for


@dataclass(frozen=True)
class CaseFile:
    """A file of cases that a recipe names, or what was made of it. path: None where it is not shown, and why. note:
    what is to be known of one that is shown."""

    label: str
    task: str
    path: Path | None
    why: str = ""
    note: str = ""

    @property
    def is_archive(self) -> bool:
        return self.path is not None and isinstance(format_of(self.path), ArchiveFormat)


def inside_roots(path: Path, roots: Sequence[Path]) -> Path | None:
    """The path, if it lies in a given folder and no part of it below that is a link."""
    for root in roots:
        try:
            return file_inside(root, path.absolute().relative_to(root).as_posix())
        except (ValueError, StudioRefused):
            continue
    return None


def case_files(view: RunView, roots: Sequence[Path]) -> list[CaseFile]:
    """In the order of the recipe."""
    found = []
    for source, task in _sources(view):
        found += [_file(one, task, view, roots) for one in _expanded(source, roots)]
    return found


def _sources(view: RunView) -> Iterator[tuple[str, str]]:
    data = view.recipe().get("data")
    for task in ("t2i", "edit"):
        plans = data.get(task) if isinstance(data, dict) else None
        for plan in plans if isinstance(plans, list) else []:
            source = plan.get("source") if isinstance(plan, dict) else None
            if isinstance(source, str) and "\0" not in source:
                yield source, task


def _expanded(source: str, roots: Sequence[Path]) -> list[str]:
    """The files of a pattern such as shards/*.tar, where its folder is a given one; else the source itself."""
    plain = Path(source).parent
    if not glob.has_magic(source) or glob.has_magic(str(plain)):
        return [source]
    if not any(plain.absolute().is_relative_to(root) for root in roots):
        return [source]
    return sorted(glob.glob(source))[:MOST_SHARDS] or [source]


def _file(source: str, task: str, view: RunView, roots: Sequence[Path]) -> CaseFile:
    path, note = Path(source), ""
    if not _exists(path) and ":" not in source and (beside := _beside(path, view.folder, roots)) is not None:
        path, note = beside, f"{source} is not there; this file lies beside the run"
    unpacked = _unpacked(source, path, view)
    if unpacked is not None:
        path = unpacked
    elif not _exists(path) or format_of(path) is None:
        return CaseFile(source, task, None, f"a run keeps these cases in {_made(view)}, and they are not there")
    place = inside_roots(path, roots)
    if place is None:
        why = f"it lies outside the given folders; add its folder: fewstep studio ... {path.absolute().parent}"
        return CaseFile(source, task, None, why)
    found = CaseFile(source, task, place, note=note)
    if not found.is_archive and place.stat().st_size > MOST_BYTES:
        return CaseFile(source, task, None, f"it has over {MOST_BYTES // 2**20} MiB; fewstep cases check reads it")
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name
        return False


def _made(view: RunView) -> Path:
    store = view.recipe().get("store")
    return (Path(store) if isinstance(store, str) else view.folder.parent / "store") / "cases"


def _unpacked(source: str, path: Path, view: RunView) -> Path | None:
    """What the run drew for a scheme, or took out of an archive."""
    if _exists(path) and format_of(path) is not None and not isinstance(format_of(path), ArchiveFormat):
        return None
    stem = re.sub(r"[:/]", "-", source) if ":" in source else path.stem
    plain = re.sub(r"([*?\[])", r"[\1]", stem)
    drawn = sorted(_made(view).glob(f"{plain}-*/cases.jsonl"), key=lambda each: each.stat().st_mtime)
    return drawn[-1] if drawn else None


def _beside(path: Path, run: Path, roots: Sequence[Path]) -> Path | None:
    """A file of the same relative name at the run or above it, as where all was copied together; of an absolute name,
    one with the same last folder."""
    tails = [path] if not path.is_absolute() else [Path(*path.parts[-2:])]
    for above in (run, *run.parents[:ABOVE]):
        for tail in tails:
            if (found := inside_roots(above / tail, roots)) is not None:
                return found
    return None
