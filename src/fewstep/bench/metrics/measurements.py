"""A metric's values for one picture, as every reader of a gallery finds them: GALLERY/metrics/<metric>.jsonl."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fewstep.bench.lines import LineFields, mistyped
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError

FOLDER = "metrics"


@dataclass(frozen=True)
class Measurement:
    """values: by name, in the units that the metric declares; a value that does not apply to this picture is absent.
    skipped: why there is no value at all. key: a hash of everything the values depend on; a line with another key is
    out of date."""

    case: str
    seed: int
    task: str
    category: str
    metric: str
    version: str
    values: Mapping[str, float]
    skipped: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        assert bool(self.values) != bool(self.skipped), self


KNOWN = {f.name for f in fields(Measurement)}
REMEDY = "remove the file and measure again"
FIELDS: LineFields = {
    "case": "text",
    "seed": "whole",
    "task": "text",
    "category": "text",
    "metric": "text",
    "version": "text",
    "values": "object",
    "skipped": "text?",
    "key": "text?",
}


def metric_path(gallery: Path, metric: str) -> Path:
    return gallery / FOLDER / f"{metric}.jsonl"


def append_measurement(gallery: Path, measured: Measurement) -> None:
    durable.make_folder(gallery / FOLDER)
    durable.append_jsonl(metric_path(gallery, measured.metric), asdict(measured))


def write_measurements(gallery: Path, metric: str, records: Iterable[Measurement]) -> None:
    """Writes the metric's file, whole."""
    durable.make_folder(gallery / FOLDER)
    lines = (json.dumps(asdict(record), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    durable.write_atomically(metric_path(gallery, metric), "".join(lines))


def read_metrics(gallery: Path) -> dict[str, list[Measurement]]:
    """Every metric's records on a gallery, by the metric's name; the last line about a case and seed counts.

    Raises:
        GalleryError: a line that is no record of a metric.
    """
    files = sorted((gallery / FOLDER).glob("*.jsonl"))
    return {path.stem: list(read_metric(gallery, path.stem).values()) for path in files}


def read_metric(gallery: Path, metric: str) -> dict[tuple[str, int], Measurement]:
    """One metric's records by case and seed; empty if it was not measured. The last line about a picture counts. A
    line that a kill cut off is no record: its picture is measured again.

    Raises:
        GalleryError: a line that is no record of a metric. Names it.
    """
    path = metric_path(gallery, metric)
    found: dict[tuple[str, int], Measurement] = {}
    for number, record in durable.numbered_records(path, cut_off=lambda number: None):
        measured = _measured(record, f"{path}:{number}")
        found[measured.case, measured.seed] = measured
    return found


def _measured(record: Mapping[str, Any] | None, where: str) -> Measurement:
    wrong = "cut off" if record is None else mistyped(record, FIELDS)
    if record is None or wrong:
        raise GalleryError(f"{where}: the line is no record of a metric ({wrong}); {REMEDY}")
    values = {name: value for name, value in record["values"].items() if value is not None}
    if wrong := mistyped({"values": values}, {"values": "numbers"}):
        raise GalleryError(f"{where}: {wrong}; {REMEDY}")
    if bool(record["values"]) == bool(record.get("skipped")):
        raise GalleryError(f"{where}: the line has values and a reason for none, or neither; {REMEDY}")
    known = {name: value for name, value in record.items() if name in KNOWN and value is not None}
    return Measurement(**{**known, "skipped": record.get("skipped")})
