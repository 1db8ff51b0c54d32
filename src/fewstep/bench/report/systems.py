"""One gallery as a report sees it: read whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.bench.gallery import (
    ManifestRow,
    PictureKey,
    open_gallery,
)
from fewstep.bench.metrics.measurements import Measurement, read_metrics
from fewstep.bench.verdict import Verdict, read_verdicts, scores_by_picture
from fewstep.runtime.errors import GalleryError


@dataclass(frozen=True)
class SuiteIdentity:
    """The facts that must be equal for pictures to be compared."""

    name: str
    version: str
    hash: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.hash[:12]})"


@dataclass(frozen=True)
class System:
    """One gallery, read whole. records: the manifest's line for each picture, failed ones among them.
    cut_off: lines of the manifest that a kill left incomplete."""

    name: str
    folder: Path
    suite: SuiteIdentity
    model: Mapping[str, Any]
    origin: str
    records: Mapping[PictureKey, ManifestRow]
    verdicts: Mapping[str, Sequence[Verdict]]
    measured: Mapping[str, Sequence[Measurement]]
    cut_off: Sequence[str] = ()

    @cached_property
    def scores(self) -> Mapping[str, Mapping[PictureKey, float]]:
        """judge -> picture -> score: the mean over the repeats that have a score. A refused or invalid answer has
        none."""
        return {judge: scores_by_picture(verdicts) for judge, verdicts in self.verdicts.items()}

    @cached_property
    def values(self) -> Mapping[str, Mapping[str, Mapping[PictureKey, float]]]:
        """metric -> name of a value -> picture -> value. Skipped values are absent."""
        found: dict[str, dict[str, dict[PictureKey, float]]] = {}
        for metric, lines in self.measured.items():
            of = found.setdefault(metric, {})
            for line in lines:
                for name, value in line.values.items():
                    if value is not None:
                        of.setdefault(name, {})[line.case, line.seed] = float(value)
        return found

    @cached_property
    def verdicts_of(self) -> Mapping[str, Mapping[PictureKey, list[Verdict]]]:
        """judge -> picture -> its verdicts, in the order of the file."""
        found: dict[str, dict[PictureKey, list[Verdict]]] = {judge: {} for judge in self.verdicts}
        for judge, verdicts in self.verdicts.items():
            for verdict in verdicts:
                found[judge].setdefault((verdict.case, verdict.seed), []).append(verdict)
        return found

    def failed(self, key: PictureKey) -> str | None:
        """Why there is no picture; None if there is one, or none was asked for."""
        record = self.records.get(key)
        if record is None or record.get("status", "drawn") == "drawn":
            return None
        return str(record.get("why") or "failed, and its gallery does not say why")


def open_system(folder: Path) -> System:
    """The gallery in `folder`.

    Raises:
        GalleryError: no gallery there, an empty one, or one that does not state its suite.
        JudgeError: malformed verdicts.
    """
    gallery = open_gallery(folder)
    heading = gallery.heading
    try:
        suite = SuiteIdentity(*(str(heading["suite"][name]) for name in ("name", "version", "hash")))
        name = str(heading["system"])
    except (KeyError, TypeError) as error:
        raise GalleryError(
            f"{folder / 'gallery.json'} does not name its system and its suite ({error}): make the gallery again"
        ) from None
    records = {(str(row["case"]), int(row["seed"])): row for row in [*gallery, *gallery.failures]}
    if not records:
        raise GalleryError(f"{folder} has no picture yet: its manifest is empty. Finish `fewstep generate` first")
    model, origin = heading.get("model") or {}, str(heading.get("origin", "generated"))
    verdicts, measured = read_verdicts(folder), read_metrics(folder)
    return System(name, folder, suite, model, origin, records, verdicts, measured, gallery.cut_off)
