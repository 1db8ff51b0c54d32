"""The sheets that a person looks at: a prompt of each category and length, and an edit of each kind. Beside them stand
their sources, the exact picture, and what every system made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fewstep.bench.gallery import Gallery
from fewstep.pocket.exam_table import ProbeRecord
from fewstep.pocket.harder.cases import HarderCase
from fewstep.pocket.harder.records import read_records
from fewstep.runtime import durable
from fewstep.sample.sheet import SheetRow, contact_sheet

CELL = 256  # px: all sizes are enlarged alike
Question = tuple[HarderCase, int]
REFERENCES = ("Source", "Image 2", "Image 3")


def write_sheets(folder: Path, scored: Sequence[Question], columns: Mapping[str, str]) -> list[Path]:
    """Writes sheet-t2i.png and sheet-edit.png of a finished examination. scored: its questions;
    columns: system -> heading."""
    galleries = {name: Gallery(folder / name) for name in columns}
    records = {name: read_records(folder / name) for name in columns}
    rows: dict[str, list[SheetRow]] = {}
    for case, seed in first_of_each(scored):
        sources = [*case.references, *[None] * (len(REFERENCES) - len(case.references))]
        drawn = [gallery.picture(case.id, seed) for gallery in galleries.values()]
        told = ", ".join(told_halves(each[case.id, seed]) for each in records.values())
        row = SheetRow(case.prompt, [*sources, case.target, *drawn], case.id, f"asked / drawn: {told}")
        rows.setdefault(case.task, []).append(row)
    return [write_sheet(folder / f"sheet-{task}.png", some, columns) for task, some in rows.items()]


def write_sheet(path: Path, rows: Sequence[SheetRow], columns: Mapping[str, str]) -> Path:
    sheet = contact_sheet(rows, (*REFERENCES, "Exact", *columns.values()), CELL)
    durable.replace_atomically(path, lambda part: sheet.save(part, format="PNG"))
    return path


def first_of_each(scored: Sequence[Question]) -> list[Question]:
    """The first prompt of each category and length, and the first edit of each kind."""
    found: dict[tuple[str, ...], Question] = {}
    for case, seed in scored:
        found.setdefault((case.task, case.category, case.length or ""), (case, seed))
    return list(found.values())


def told_halves(record: ProbeRecord) -> str:
    drawn = "-" if record["drawn"] is None else f"{record['drawn']:.2f}"
    return f"{record['asked']:.2f} / {drawn}"
