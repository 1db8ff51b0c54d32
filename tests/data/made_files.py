"""Files of cases, as people bring them."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.data.cases import Case
from fewstep.data.sources import (
    entries,
)
from fewstep.runtime.errors import CaseError

T2I = {"prompt": "a red boat"}


def picture(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> Path:
    Image.new(mode, size).save(path, **options)
    return path


def jsonl(folder: Path, *records: Any) -> Path:
    path = folder / "cases.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8")
    return path


def png(colour: str = "teal", size: tuple[int, int] = (40, 30)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, format="PNG")
    return stream.getvalue()


def found(path: Path, folder: Path) -> list[Case]:
    cases = list(entries(path, folder / "unpacked"))
    assert all(isinstance(case, Case) for case in cases), cases
    return [case for case in cases if isinstance(case, Case)]


def problems(path: Path, folder: Path) -> list[str]:
    return [str(entry) for entry in entries(path, folder / "unpacked") if isinstance(entry, CaseError)]


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def packed(
    path: Path, members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] = lambda info: None
) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            archive.addfile(info, io.BytesIO(data))
    return path


SAMPLES = {
    "n/001.png": png(),
    "n/001.txt": b" a boat \n",
    "n/001.cls": b"7",
    "n/002.source1.jpg": png("red"),
    "n/002.source2.png": png("blue"),
    "n/002.json": json.dumps({"instruction": "join", "category": "object", "file_name": "002.target.png"}).encode(),
    "n/002.target.png": png("white"),
    "n/._002.txt": b"\0",
}
