"""A metric's values for one picture, as every reader of a gallery finds them: GALLERY/metrics/<metric>.jsonl."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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
    """One metric's records by case and seed; empty if it was not measured."""
    path = metric_path(gallery, metric)
    found = [_measured(record, path) for record in durable.read_jsonl(path)]
    return {(each.case, each.seed): each for each in found}


def _measured(record: Mapping[str, Any], path: Path) -> Measurement:
    known = {name: value for name, value in record.items() if name in KNOWN}
    if not isinstance(known.get("values"), dict) or bool(known["values"]) == bool(known.get("skipped")):
        raise GalleryError(f"{path}: a line is no record of a metric; remove the file and measure again")
    try:
        return Measurement(**known)
    except TypeError as error:
        raise GalleryError(
            f"{path}: a line is no record of a metric ({error}); remove the file and measure again"
        ) from error
