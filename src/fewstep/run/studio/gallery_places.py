"""The galleries of the folders that the studio was given. A gallery is asked for by its name here, never by a path."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from fewstep.bench.gallery import HEADING, read_heading
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.places import RESCAN_SECONDS, named_below
from fewstep.runtime.errors import GalleryError


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
        there = named_below(self.roots, lambda folder: (folder / HEADING).is_file())
        return {name: _told(name, folder) for name, folder in there.items()}


def _told(name: str, folder: Path) -> FoundGallery:
    try:
        heading = read_heading(folder) or {}
    except GalleryError as error:
        return FoundGallery(name, folder, folder.name, "", "", str(error))
    suite = heading.get("suite", {})
    told = f"{suite.get('name')} {suite.get('version', '')}".strip()
    return FoundGallery(name, folder, str(heading.get("system", folder.name)), told, str(suite.get("hash", "")))
