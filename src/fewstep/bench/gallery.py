"""A gallery: one system's pictures for one suite, as a folder.

    gallery.json           whose pictures these are, and for which suite
    manifest.jsonl         a line for each case and seed; with several processes also manifest.rank1.jsonl and so on
    pictures/<hash>.png    lossless, named after their pixels

A picture is whole before its line is written. So every picture that the manifest names exists, and a generation that
was stopped goes on where it left off. A picture that could not be drawn has a line too: status "failed" and why. There
is no torch here, so a gallery of any system can be read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.lines import LineFields, mistyped
from fewstep.bench.manifest import DRAWN, FAILED, ManifestRow, read_manifest
from fewstep.bench.pixels import pixel_hash, rgb_or_rgba
from fewstep.data.pictures import open_picture
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError, GalleryError
from fewstep.runtime.strict_json import load_json

HEADING = "gallery.json"
MANIFEST = "manifest.jsonl"
FORMAT = 1
AGAIN = "Remove the file, and draw or adopt it again by the same command"
IDENTITY = ("system", "suite", "model", "origin")  # what makes a gallery another one

HEADING_FIELDS: LineFields = {"system": "text", "suite": "object", "model": "object?", "origin": "text?"}
HASH = re.compile(r"[0-9a-f]{32}")  # the name of a picture that we drew

PictureKey = tuple[str, int]  # case and seed


class Gallery:
    """The gallery of one folder, which is made if it does not exist. A picture's key is its case and seed. rank: this
    process writes a manifest of its own; all are read together."""

    def __init__(self, folder: Path, rank: int | None = None):
        self.folder = folder
        self._own = folder / (MANIFEST if rank is None else f"manifest.rank{rank}.jsonl")
        durable.make_folder(folder / "pictures")
        self._rows: dict[PictureKey, ManifestRow] = {}
        self.cut_off: list[str] = []  # lines that a kill left incomplete, as FILE:LINE
        for manifest in sorted(folder.glob("manifest*.jsonl")):
            numbers: list[int] = []
            for row in read_manifest(manifest, folder, numbers.append):
                self._take(row)
            self.cut_off += [f"{manifest}:{number}" for number in numbers]

    def __len__(self) -> int:
        """The number of pictures, without failures."""
        return sum(1 for _ in self)

    def __contains__(self, key: PictureKey) -> bool:
        return _drawn(self._rows.get(key))

    def __iter__(self) -> Iterator[ManifestRow]:
        """The rows that have a picture."""
        return (row for row in self._rows.values() if _drawn(row))

    @property
    def failures(self) -> list[ManifestRow]:
        return [row for row in self._rows.values() if not _drawn(row)]

    @property
    def heading(self) -> ManifestRow:
        """Whose pictures these are; empty if the gallery does not state it."""
        return read_heading(self.folder) or {}

    def add(self, case: str, seed: int, picture: Image.Image, facts: Mapping[str, Any]) -> Path:
        """Adds the picture and its line. facts: prompt, task, category, grid, guidance; everything a reader must
        know."""
        plain = rgb_or_rgba(picture)
        name = f"pictures/{pixel_hash(plain)}.png"
        if not (self.folder / name).is_file():
            durable.replace_atomically(self.folder / name, lambda beside: plain.save(beside, format="PNG"))
        self._write({"case": case, "seed": seed, "file": name, "status": DRAWN, **facts})
        return self.folder / name

    def fail(self, case: str, seed: int, why: str, facts: Mapping[str, Any]) -> None:
        """A line that says why there is no picture."""
        self._write({"case": case, "seed": seed, "file": None, "status": FAILED, "why": why, **facts})

    def row(self, case: str, seed: int) -> ManifestRow:
        return self._rows[case, seed]

    def path(self, case: str, seed: int) -> Path:
        """The file of the picture of this case and seed."""
        return self.folder / str(self._rows[case, seed]["file"])

    def picture(self, case: str, seed: int) -> Image.Image:
        """The picture in RGB.

        Raises:
            GalleryError: the file is torn, or not the picture that it is named after.
        """
        path = self.path(case, seed)
        try:
            picture = open_picture(path, f"{case}, seed {seed}")
        except CaseError as error:
            raise GalleryError(f"{error}. {AGAIN}") from error
        refuse_exchanged(path, pixel_hash(picture))
        return picture.convert("RGB")

    def _write(self, row: ManifestRow) -> None:
        durable.append_jsonl(self._own, row)
        self._take(row)

    def _take(self, row: ManifestRow) -> None:
        """The last line about a case and seed counts. But a failure does not replace a picture, and a picture whose
        file is gone does not count."""
        key = row["case"], row["seed"]
        if row.get("status", DRAWN) == DRAWN:
            if (self.folder / row["file"]).is_file():
                self._rows[key] = row
        elif not _drawn(self._rows.get(key)):
            self._rows[key] = row


def _drawn(row: ManifestRow | None) -> bool:
    return row is not None and row.get("status", DRAWN) == DRAWN


def refuse_exchanged(path: Path, pixels: str) -> None:
    """Holds a picture against its name. A name that is no hash promises nothing.

    Args:
        pixels: the `pixel_hash` of the file.

    Raises:
        GalleryError: it is another picture.
    """
    if HASH.fullmatch(path.stem) and path.stem != pixels:
        raise GalleryError(f"{path} is not the picture that it is named after (its pixels have hash {pixels}). {AGAIN}")


def read_heading(folder: Path) -> ManifestRow | None:
    """The content of gallery.json; None if there is none.

    Raises:
        GalleryError: the file exists and is no heading.
    """
    path = folder / HEADING
    if not path.is_file():
        return None
    try:
        heading = load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GalleryError(f"{path} is no JSON ({error}); remove the gallery and make it again") from error
    if not isinstance(heading, dict) or heading.get("format") != FORMAT:
        raise GalleryError(f"{path} is no gallery of format {FORMAT}; make it again with this version of fewstep")
    if wrong := mistyped(heading, HEADING_FIELDS):
        raise GalleryError(f"{path}: {wrong}; restore the file, or make the gallery again")
    return heading


def open_gallery(folder: Path) -> Gallery:
    """An existing gallery, for reading.

    Raises:
        GalleryError: there is none.
    """
    if read_heading(folder) is None:
        raise GalleryError(
            f"{folder} is no gallery: it has no {HEADING}. Make one with `fewstep generate MODEL --suite S --to "
            "GALLERY`, or of pictures made elsewhere with `fewstep bench adopt`"
        )
    return Gallery(folder)


def begin_gallery(
    folder: Path, system: str, suite: Mapping[str, Any], model: Mapping[str, Any], origin: str, rank: int | None = None
) -> Gallery:
    """The gallery of this system for this suite, new or continued.

    Args:
        suite: its name, version and hash.
        model: fingerprint, steps, guidance, dtype: everything that changes the pictures.

    Raises:
        GalleryError: the folder holds another system's or another suite's pictures, or something else.
    """
    heading: ManifestRow = {"format": FORMAT, "system": system, "suite": suite, "model": model, "origin": origin}
    heading = json.loads(json.dumps(heading))
    known = read_heading(folder)
    if known is None and (strange := _strange(folder)):
        known = read_heading(folder)  # another process may have begun it since
        if known is None:
            raise GalleryError(
                f"{folder} holds other things ({', '.join(strange[:5])}); name a new folder for the gallery"
            )
    if known is None:
        durable.make_folder(folder)
        durable.write_atomically(folder / HEADING, json.dumps(heading, indent=1, ensure_ascii=False) + "\n")
    else:
        _refuse_other(folder, known, heading)
    return Gallery(folder, rank)


def refuse_other_suite(folder: Path, suite: Mapping[str, Any]) -> None:
    """Called before a model is loaded.

    Raises:
        GalleryError: `folder` holds pictures for another suite.
    """
    known = read_heading(folder)
    if known is not None and known.get("suite") != suite:
        _refuse_other(folder, known, {**known, "suite": dict(suite)})


def _strange(folder: Path) -> list[str]:
    """Files that no unfinished start of ours leaves behind."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise GalleryError(f"{folder} is a file; name a folder for the gallery")
    found = [path.name for path in sorted(folder.iterdir()) if path.name not in ("pictures", "suite")]
    return [name for name in found if not name.startswith(f".{HEADING}")]


def _refuse_other(folder: Path, known: ManifestRow, heading: ManifestRow) -> None:
    for part in IDENTITY:
        if known.get(part) != heading[part]:
            was, now = _difference(known.get(part), heading[part])
            raise GalleryError(
                f"{folder} holds pictures of another {part} ({was}, not {now}); name a new folder, or remove this one"
            )


def _difference(was: Any, now: Any) -> tuple[str, str]:
    """The values that differ, without those that agree."""
    if not isinstance(was, dict) or not isinstance(now, dict):
        return str(was), str(now)
    keys = [key for key in {**was, **now} if was.get(key) != now.get(key)]
    return _told(was, keys), _told(now, keys)


def _told(side: ManifestRow, keys: list[str]) -> str:
    return ", ".join(f"{key} {side.get(key)}" for key in keys)
