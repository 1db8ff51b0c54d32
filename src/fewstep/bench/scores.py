"""Galleries' scores and metrics, as numbers for ranks and comparisons.

Everything that the suite asks for is included: a picture that is missing, or has no score from a judge, is a record
with None. Galleries are compared only if they answer one suite, with one hash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewstep.bench.gallery import read_heading
from fewstep.bench.judge_identity import refuse_two_judges
from fewstep.bench.metrics import model_metrics
from fewstep.bench.metrics.by_name import METRICS, metrics_named
from fewstep.bench.metrics.measurements import metric_path, read_metric
from fewstep.bench.metrics.metric import NO_PICTURE, ValueSpec
from fewstep.bench.resampling import Cells, ScoreRecord
from fewstep.bench.suite import Suite
from fewstep.bench.suites import suite_of
from fewstep.bench.verdict import Verdict, read_verdicts, scores_by_picture
from fewstep.runtime.errors import GalleryError


@dataclass(frozen=True)
class ScoredGallery:
    """A gallery's folder, its system, and the suite it answers."""

    folder: Path
    system: str
    suite: Suite

    def judges(self) -> dict[str, Cells]:
        """By judge: scores of everything asked. Several answers of a judge about one picture are replaced by their
        mean."""
        return self.cells_by_judge(read_verdicts(self.folder))

    def cells_by_judge(self, verdicts: Mapping[str, Sequence[Verdict]]) -> dict[str, Cells]:
        return {judge: self._cells(scores_by_picture(given)) for judge, given in verdicts.items()}

    def value(self, name: str) -> tuple[str, str, ValueSpec]:
        """The metric, the value's name, and its specification. METRIC alone means the value that represents it.

        Raises:
            GalleryError: unknown.
        """
        metric, _, value = name.partition(".")
        if metric not in METRICS.names() and metric_path(self.folder, metric).is_file():  # a model's scores
            return metric, value or self._main(metric), _of(model_metrics.VALUES, metric, value or self._main(metric))
        [found] = metrics_named([metric])
        return metric, value or found.main, _of(found.values, metric, value or found.main)

    def _main(self, metric: str) -> str:
        has = {name for each in read_metric(self.folder, metric).values() for name in each.values}
        return next((name for name in model_metrics.MAIN if name in has), model_metrics.MAIN[0])

    def metric(self, name: str, value: str) -> "MetricCells":
        """A metric's values. Skipped pictures are left out, unless there is no picture: that counts as missing.

        Raises:
            GalleryError: it was not measured.
        """
        records = read_metric(self.folder, name)
        if not records:
            raise GalleryError(f"{self.folder} has no metric {name}: `fewstep bench measure {self.folder}` measures it")
        known = {key: each.values[value] for key, each in records.items() if value in each.values}
        skipped = {
            key
            for key, each in records.items()
            if value not in each.values and not (each.skipped or "").startswith(NO_PICTURE)
        }
        return MetricCells(self._cells(known, skipped), frozenset(skipped))

    def _cells(self, known: Mapping[tuple[str, int], float], without: set[tuple[str, int]] | None = None) -> Cells:
        cells: dict[str, list[ScoreRecord]] = {}
        for question in self.suite.questions:
            case = question.case
            for seed in question.seeds:
                if (case.id, seed) not in (without or ()):
                    cells.setdefault(case.category, []).append((case.id, seed, known.get((case.id, seed))))
        return cells


@dataclass(frozen=True)
class MetricCells:
    """cells: where the metric applies; skipped: where it does not."""

    cells: Cells
    skipped: frozenset[tuple[str, int]] = field(default_factory=frozenset)

    def without(self, others: frozenset[tuple[str, int]]) -> Cells:
        return {
            category: [record for record in records if record[:2] not in others]
            for category, records in self.cells.items()
        }


def open_scored_galleries(folders: Sequence[Path]) -> list[ScoredGallery]:
    """Galleries to be compared.

    Raises:
        GalleryError: no gallery, or galleries of different suites.
        SuiteError: a gallery's suite is missing.
    """
    headings = [_heading(folder) for folder in folders]
    first = headings[0]["suite"]
    for folder, heading in zip(folders, headings, strict=True):
        if heading["suite"].get("hash") != first.get("hash"):
            raise GalleryError(
                f"{folders[0]} answers suite {_named(first)} and {folder} answers {_named(heading['suite'])}: figures "
                "of different questions are not compared. Draw both for one suite"
            )
    names = _distinct([str(heading["system"]) for heading in headings], folders)
    return [ScoredGallery(f, name, suite_of(f)) for f, name in zip(folders, names, strict=True)]


def _distinct(systems: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Two galleries of one system are distinguished by their folders, or else by their position in the list."""
    named = [s if systems.count(s) == 1 else f"{s} ({f.name})" for s, f in zip(systems, folders, strict=True)]
    return [n if named.count(n) == 1 else f"{n} #{i}" for i, n in enumerate(named, 1)]


def shared_judges(galleries: Sequence[ScoredGallery], names: Sequence[str] | None) -> dict[str, dict[str, Cells]]:
    """By system and judge, for the judges named, or for all that every gallery has.

    Raises:
        GalleryError: a named judge, or every judge, is missing somewhere.
        JudgeError: one name stands for different judges in different galleries.
    """
    verdicts = {each.system: read_verdicts(each.folder) for each in galleries}
    found = {each.system: each.cells_by_judge(verdicts[each.system]) for each in galleries}
    common = [j for j in next(iter(found.values())) if all(j in judges for judges in found.values())]
    chosen = set(names or common)
    refuse_two_judges(
        (each.folder, judge, (verdict.record() for verdict in given))
        for each in galleries
        for judge, given in verdicts[each.system].items()
        if judge in chosen
    )
    for each in galleries:
        for name in names or ():
            if name not in found[each.system]:
                there = ", ".join(found[each.system]) or "none"
                raise GalleryError(
                    f"{each.folder} has no verdicts of judge {name!r:.60}, only of: {there}. Judge it first"
                )
    if not (names or common):
        told = "; ".join(f"{each.folder}: {', '.join(found[each.system]) or 'none'}" for each in galleries)
        raise GalleryError(f"no judge has seen all galleries ({told}); judge them, or compare a --metric")
    return {system: {name: judges[name] for name in names or common} for system, judges in found.items()}


def _of(values: Mapping[str, ValueSpec], metric: str, name: str) -> ValueSpec:
    if name not in values:
        raise GalleryError(f"{metric} has no value {name!r:.40}; it has {', '.join(values)}")
    return values[name]


def _heading(folder: Path) -> Mapping[str, Any]:
    heading = read_heading(folder)
    if heading is None:
        raise GalleryError(f"{folder} is no gallery: it has no gallery.json. Give folders that `fewstep generate` made")
    return heading


def _named(suite: Mapping[str, Any]) -> str:
    return f"{suite.get('name')} {suite.get('version')} ({str(suite.get('hash'))[:8]})"
