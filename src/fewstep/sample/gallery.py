"""A gallery: pictures of one system as PNG files, and a manifest with one line for each.

The line is written after its picture is whole, so what the manifest names is there, and a generation that was stopped
goes on where it left off. No torch here: a gallery of any system can be read.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep import durable

MANIFEST = "manifest.jsonl"


class Gallery:
    """The gallery of one folder, made if it is not there. A picture's key is its case and seed."""

    def __init__(self, folder: Path):
        self.folder = folder
        durable.make_folder(folder / "pictures")
        known = {(str(r["case"]), int(r["seed"])): r for r in durable.lines(folder / MANIFEST)}
        self._records = {key: r for key, r in known.items() if (folder / r["file"]).is_file()}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._records.values())

    def add(self, case: str, seed: int, picture: Image.Image, facts: Mapping[str, Any]) -> Path:
        """The picture and its line. facts: prompt, task, category, grid, guidance - what a reader must know."""
        name = f"pictures/{_safe(case)}-{seed}.png"
        durable.replace_by(self.folder / name, lambda beside: picture.save(beside, format="PNG"))
        record = {"case": case, "seed": seed, "file": name, **facts}
        durable.append_line(self.folder / MANIFEST, record)
        self._records[case, seed] = record
        return self.folder / name

    def path(self, case: str, seed: int) -> Path:
        """Where the picture of this case and seed is."""
        return self.folder / str(self._records[case, seed]["file"])

    def picture(self, case: str, seed: int) -> Image.Image:
        with Image.open(self.path(case, seed)) as opened:
            return opened.convert("RGB")


def _safe(case: str) -> str:
    """A file name of a case id; ids that differ keep names that differ."""
    plain = re.sub(r"[^\w.-]", "_", case)
    return plain if plain == case else f"{plain}-{hashlib.blake2b(case.encode(), digest_size=4).hexdigest()}"
