"""The runs of the folders that the studio was given, and the files in them that it may show.

A run is asked for by its name here, never by a path. A file inside a run is asked for by a path, which may not leave
the run, and no part of which may be a link.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock

from fewstep.run.studio.answers import StudioRefused
from fewstep.runtime.errors import RunError

DEPTH = 3  # folders below a given one in which runs are looked for
MOST_FOLDERS = 20_000  # looked at in one search
RESCAN_SECONDS, RESCAN_SHARE = 3.0, 0.02  # between two searches, which take at most this share of the time
INSIDE_A_RUN = ("metrics.jsonl", "environment.json", "checkpoints", "lock")
EXPORTS = "exports"  # in a run folder: what Ship writes
MODEL_FILES = ("model_index.json", "modular_model_index.json")


class RunPlaces:
    """roots: run folders, or folders that hold runs. A folder that is made later counts from then on."""

    def __init__(self, roots: Sequence[Path]):
        for root in roots:
            if root.exists() and not root.is_dir():
                raise RunError(f"{root} is a file; give run folders, or folders that hold runs")
        self.roots = tuple(root.absolute() for root in roots)
        self._found: dict[str, Path] = {}
        self._next, self._lock = 0.0, Lock()

    def runs(self) -> dict[str, Path]:
        """Name -> folder, in order of the names. Looks again every few seconds."""
        with self._lock:
            begun = time.monotonic()
            if begun >= self._next:
                self._found = named_below(self.roots, is_run)
                now = time.monotonic()
                self._next = now + max(RESCAN_SECONDS, (now - begun) / RESCAN_SHARE)
            return self._found

    def look_again(self) -> None:
        """The next call of `runs` searches, since a run was just made."""
        self._next = 0.0

    def folder(self, name: str) -> Path:
        """
        Raises:
            StudioRefused: no such run.
        """
        found = self.runs().get(name)
        if found is None or not found.is_dir():
            raise StudioRefused(f"there is no run {name!r:.120} here (any more)", 404)
        return found


def file_inside(folder: Path, asked: str) -> Path:
    """The file `asked` (with slashes) of a folder.

    Raises:
        StudioRefused: it would leave the folder, a part of it is a link, or it is no file.
    """
    parts = asked.split("/")
    if not asked or "\0" in asked or "\\" in asked or any(part in ("", ".", "..") for part in parts):
        raise StudioRefused("a file is named by its path inside the run", 403)
    here = folder
    for part in parts:
        here = here / part
        if here.is_symlink():
            raise StudioRefused("links are not followed", 403)
    if not here.is_file():
        raise StudioRefused(f"{asked:.200} is not there (any more)", 404)
    return here


def is_run(folder: Path) -> bool:
    """A folder with a recipe, and not only the copy of it that a student carries."""
    if not (folder / "recipe.yaml").is_file():
        return False
    if (folder / "metrics.jsonl").is_file():
        return True
    return any((folder / name).exists() for name in INSIDE_A_RUN) and not any(
        (folder / name).exists() for name in MODEL_FILES
    )


def folders_below(root: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    """The folders at or below `root` that are wanted, without going into those."""
    waiting, looked = [(root, 0)], 0
    while waiting and looked < MOST_FOLDERS:
        folder, depth = waiting.pop()
        looked += 1
        if wanted(folder):
            yield folder
        elif depth < DEPTH:
            waiting += [(inside, depth + 1) for inside in _folders(folder)]


def named_below(roots: Sequence[Path], wanted: Callable[[Path], bool]) -> dict[str, Path]:
    """Name -> folder: its path below its root, with the root's own name where there are several."""
    found: dict[str, Path] = {}
    for root in roots:
        for folder in folders_below(root, wanted):
            inside = folder.relative_to(root).as_posix()
            name = root.name if inside == "." else f"{root.name}/{inside}" if len(roots) > 1 else inside
            while name in found and found[name] != folder:
                name = f"{name} (2)"
            if folder not in found.values():
                found[name] = folder
    return dict(sorted(found.items()))


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:  # not there yet, or not ours to read
        return []
