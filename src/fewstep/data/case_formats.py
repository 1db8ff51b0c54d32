"""The formats of case files by their endings, without the leading dot. Other packages can add theirs
(docs/extending.md)."""

from pathlib import Path

from fewstep.data.formats.csv_table import csv_table
from fewstep.data.formats.format import ArchiveFormat, CaseFormat, FileFormat
from fewstep.data.formats.lines import jsonl, txt
from fewstep.data.formats.parquet import parquet
from fewstep.data.formats.tar import tar
from fewstep.runtime.plugins import ExtensionPoint

OWN: dict[str, CaseFormat] = {
    "jsonl": FileFormat(jsonl),
    "ndjson": FileFormat(jsonl),
    "txt": FileFormat(txt),
    "csv": FileFormat(csv_table),
    "tsv": FileFormat(csv_table),
    "parquet": ArchiveFormat(parquet),
    "tar": ArchiveFormat(tar, tar),
    "tar.gz": ArchiveFormat(tar, tar),
    "tgz": ArchiveFormat(tar, tar),
}


def _problem(name: str, thing: object) -> str | None:
    if name != name.lower().strip("."):
        return f"is named by the ending of its files, in lower-case letters and without the leading dot, not {name!r}"
    return None if isinstance(thing, CaseFormat) else "is neither a FileFormat nor an ArchiveFormat"


CASE_FORMATS: ExtensionPoint[CaseFormat] = ExtensionPoint("fewstep.case_formats", "case format", _problem, OWN)


def ending_of(path: Path) -> str:
    """The ending that names the file's format, with its dot. If two fit, the longer counts: .tar.gz is one ending. If
    none names a format, the last ending."""
    parts = path.name.lower().split(".")[1:]
    known = CASE_FORMATS.names()
    fitting = (".".join(parts[i:]) for i in range(len(parts)))
    name = next((ending for ending in fitting if ending in known), None)
    return path.suffix.lower() if name is None else f".{name}"


def format_of(path: Path) -> CaseFormat | None:
    """The format that the file's ending names, or None if it names none.

    Raises:
        PluginError: the format comes from another package and cannot be used.
    """
    return CASE_FORMATS.find(ending_of(path).removeprefix("."))
