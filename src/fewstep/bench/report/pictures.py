"""The pictures of a report: copied under the hash of their bytes, with a small one beside each large one."""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from fewstep.bench.gallery import refuse_exchanged
from fewstep.bench.pixels import pixel_hash, rgb_or_rgba
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError

PICTURES, LIGHT = "pictures", "light"
SIDE = 320  # px: a picture up to this size needs no small one, and keeps every pixel
_NAMED = re.compile(r"[0-9a-f]{20}\.\w+")  # files that we name; nothing else is ever removed
QUALITY = 82  # WebP; the small picture is for finding, the whole one for judging


class PictureMode(StrEnum):
    """Where the report's pictures are."""

    COPIED = "copied"
    LINKED = "linked"  # stay in their galleries; the report finds them by relative paths
    NONE = "none"

    @classmethod
    def of(cls, link: bool, none: bool) -> "PictureMode":
        """The mode that two options of the command line ask for.

        Raises:
            GalleryError: both are given.
        """
        if link and none:
            raise GalleryError("--link-pictures and --no-pictures exclude each other; give one of them")
        return cls.LINKED if link else cls.NONE if none else cls.COPIED


@dataclass
class Album:
    """The pictures of one report folder. `place` returns what the page must load: the picture, and its small form or 0
    if it needs none."""

    folder: Path
    keep: PictureMode
    used: set[str] = field(default_factory=set)
    _placed: dict[Path, tuple[str, str | int]] = field(default_factory=dict)

    def place(self, picture: Path) -> tuple[str, str | int] | None:
        """None if no pictures are kept, or the file is missing or is no picture.

        Raises:
            GalleryError: it is not the picture that it is named after.
        """
        if self.keep is PictureMode.NONE:
            return None
        if picture not in self._placed:
            try:
                self._placed[picture] = self._new(picture)
            except (OSError, ValueError, Image.DecompressionBombError):
                return None
        return self._placed[picture]

    def _new(self, picture: Path) -> tuple[str, str | int]:
        content = picture.read_bytes()
        name = hashlib.blake2b(content, digest_size=10).hexdigest()
        light = self._light(picture, f"{LIGHT}/{name}.webp")
        if self.keep is PictureMode.LINKED:
            return quote(Path(os.path.relpath(picture.resolve(), self.folder.resolve())).as_posix()), light
        whole = f"{PICTURES}/{name}{picture.suffix.lower()}"
        self.used.add(whole)
        if not (self.folder / whole).is_file():
            durable.write_atomically(self.folder / whole, content)
        return whole, light

    def _light(self, picture: Path, name: str) -> str | int:
        with Image.open(picture) as opened:
            if max(opened.size) <= SIDE:
                refuse_exchanged(picture, pixel_hash(opened))
                return 0
            self.used.add(name)
            if not (self.folder / name).is_file():
                refuse_exchanged(picture, pixel_hash(opened))
                small = rgb_or_rgba(opened)  # what is transparent stays so, as in the whole picture
                small.thumbnail((SIDE, SIDE))
                durable.replace_atomically(
                    self.folder / name, lambda beside: small.save(beside, "WEBP", quality=QUALITY)
                )
        return name

    def make_folders(self) -> None:
        for name in {PictureMode.COPIED: (PICTURES, LIGHT), PictureMode.LINKED: (LIGHT,), PictureMode.NONE: ()}[
            self.keep
        ]:
            durable.make_folder(self.folder / name)

    def sweep(self) -> None:
        """Removes files of an earlier report in this folder that this one does not show."""
        for path in self._files():
            if _NAMED.fullmatch(path.name) and f"{path.parent.name}/{path.name}" not in self.used:
                path.unlink()

    def _files(self) -> Iterable[Path]:
        return [path for name in (PICTURES, LIGHT) for path in (self.folder / name).glob("*") if path.is_file()]
