"""The galleries of the folders that the studio was given. A gallery is asked for by its name here, never by a path."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from fewstep.bench.gallery import HEADING, read_heading
from fewstep.run.studio.answers import StudioRefused
from fewstep.runtime.errors import GalleryError

DEPTH = 4  # folders below a given one in which galleries are looked for
MOST_FOLDERS = 20_000  # looked at in one search
RESCAN_SECONDS = 3.0


@dataclass(frozen=True)
class FoundGallery:
    """system, suite: as the gallery states. fault: why it cannot be read, in a sentence."""

    name: str
    folder: Path
    system: str
    suite: str
    suite_hash: str
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        shown = {"name": self.name, "system": self.system, "suite": self.suite, "suite_hash": self.suite_hash}
        return shown | {"fault": self.fault}


class GalleryPlaces:
    """Looks for galleries below the roots, again every few seconds."""

    def __init__(self, roots: Sequence[Path]):
        self.roots = roots
        self._found: dict[str, FoundGallery] = {}
        self._looked, self._lock = -RESCAN_SECONDS, Lock()

    def galleries(self) -> dict[str, FoundGallery]:
        """Name -> gallery, in order of the names."""
        with self._lock:
            if time.monotonic() - self._looked >= RESCAN_SECONDS:
                self._found, self._looked = self._search(), time.monotonic()
            return self._found

    def folder(self, name: str) -> Path:
        """
        Raises:
            StudioRefused: no such gallery.
        """
        found = self.galleries().get(name)
        if found is None:  # it may be new
            self._looked = -RESCAN_SECONDS
            found = self.galleries().get(name)
        if found is None or not (found.folder / HEADING).is_file():
            raise StudioRefused(f"there is no gallery {name!r:.120} here (any more)", 404)
        return found.folder

    def _search(self) -> dict[str, FoundGallery]:
        found: dict[str, FoundGallery] = {}
        seen: set[Path] = set()
        for root in self.roots:
            for folder in folders_below(root, lambda inside: (inside / HEADING).is_file()):
                if folder in seen:
                    continue
                seen.add(folder)
                inside = folder.relative_to(root).as_posix()
                name = root.name if inside == "." else f"{root.name}/{inside}" if len(self.roots) > 1 else inside
                while name in found:
                    name = f"{name} (2)"
                found[name] = _told(name, folder)
        return dict(sorted(found.items()))


def _told(name: str, folder: Path) -> FoundGallery:
    try:
        heading = read_heading(folder) or {}
    except GalleryError as error:
        return FoundGallery(name, folder, folder.name, "", "", str(error))
    suite = heading.get("suite", {})
    told = f"{suite.get('name')} {suite.get('version', '')}".strip()
    return FoundGallery(name, folder, str(heading.get("system", folder.name)), told, str(suite.get("hash", "")))


def folders_below(root: Path, is_one: Callable[[Path], bool]) -> Iterator[Path]:
    """Folders below the root that are one of these. What lies inside of one is not looked at. No link is followed."""
    waiting, looked = [(root, 0)], 0
    while waiting and looked < MOST_FOLDERS:
        folder, depth = waiting.pop()
        looked += 1
        if is_one(folder):
            yield folder
        elif depth < DEPTH:
            waiting += [(inside, depth + 1) for inside in _inside(folder)]


def _inside(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:  # not there yet, or not ours to read
        return []
