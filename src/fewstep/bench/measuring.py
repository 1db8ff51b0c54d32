"""Metrics over a whole gallery. A picture is not measured twice, and the files are the same whenever a run was
stopped."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

from fewstep.bench.gallery import (
    Gallery,
    ManifestRow,
    open_gallery,
)
from fewstep.bench.metrics import measurements
from fewstep.bench.metrics.measurements import Measurement
from fewstep.bench.metrics.metric import (
    GalleryPicture,
    Metric,
    Skipped,
)
from fewstep.bench.suite import Question
from fewstep.bench.suites import suite_of
from fewstep.runtime.errors import GalleryError

WORTH_POOLING = 64  # pictures; fewer are measured before further processes have started

_Wanted = tuple[str, tuple[str, ...]]  # a case, and the metrics that it lacks


def run_metrics(
    folder: Path,
    metrics: Sequence[Metric],
    workers: int = 1,
    advance: Callable[[int, int], object] = lambda done, of: None,
) -> dict[str, list[Measurement]]:
    """Every metric's records on every row of the gallery, in the order of its suite. Lines are appended as they come;
    at the end each file is written whole, in that order.

    Args:
        workers: processes. With more than one, the metrics' functions must be importable in them.
        advance: called with the number of cases done, and of how many.

    Raises:
        GalleryError, SuiteError: no gallery, or one whose suite is missing.
    """
    bench = _Bench(open_gallery(folder))
    found = {metric.name: _current(bench, metric) for metric in metrics}
    wanted = list(_wanted(bench, metrics, found))
    for done, records in enumerate(_answers(bench, wanted, metrics, workers), 1):
        for each in records:
            measurements.append_measurement(folder, each)
            found[each.metric][each.case, each.seed] = each
        advance(done, len(wanted))
    ordered = {name: [known[shot.key] for shot in bench.shots()] for name, known in found.items()}
    for name, records in ordered.items():
        measurements.write_measurements(folder, name, records)
    return ordered


class _Bench:
    """A gallery with the suite it answers, picture by picture."""

    def __init__(self, gallery: Gallery):
        self.gallery, self.suite = gallery, suite_of(gallery.folder)
        rows = {(str(row["case"]), int(row["seed"])): row for row in [*gallery, *gallery.failures]}
        self.cases: dict[str, tuple[Question, list[ManifestRow]]] = {}
        for question in self.suite.questions:
            asked = [rows.pop((question.case.id, seed)) for seed in question.seeds if (question.case.id, seed) in rows]
            if asked:
                self.cases[question.case.id] = question, asked
        if rows:
            case, seed = next(iter(rows))
            raise GalleryError(
                f"{gallery.folder}: the manifest names case {case!r:.60} with seed {seed}, which suite "
                f"{self.suite.name} does not ask; remove the line, or make the gallery again"
            )

    def shots(self) -> Iterator[GalleryPicture]:
        for case in self.cases:
            yield from self.shots_of(case)

    def shots_of(self, case: str) -> list[GalleryPicture]:
        """The case's pictures. Each has access to the others."""
        question, rows = self.cases[case]
        alone = [GalleryPicture(row, question, self.suite, self.gallery) for row in rows]
        return [
            GalleryPicture(
                shot.row, question, self.suite, self.gallery, [other for other in alone if other is not shot]
            )
            for shot in alone
        ]


def measurement_key(metric: Metric, shot: GalleryPicture) -> str:
    """A hash of everything that this metric's values for this picture depend on."""
    siblings = sorted(str(each.row.get("file")) for each in shot.siblings) if metric.of_case else []
    told = [metric.name, metric.version, metric.tools(), shot.suite.hash, shot.row, siblings]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).hexdigest()


def measure_picture(metric: Metric, shot: GalleryPicture) -> Measurement:
    found = metric.measure(shot)
    case = shot.question.case
    return Measurement(
        *shot.key,
        task=case.task,
        category=case.category,
        metric=metric.name,
        version=metric.version,
        values={} if isinstance(found, Skipped) else found,
        skipped=found.why if isinstance(found, Skipped) else None,
        key=measurement_key(metric, shot),
    )


def _current(bench: _Bench, metric: Metric) -> dict[tuple[str, int], Measurement]:
    """The existing records that are not out of date."""
    known = measurements.read_metric(bench.gallery.folder, metric.name)
    keys = {shot.key: measurement_key(metric, shot) for shot in bench.shots()}
    return {key: each for key, each in known.items() if keys.get(key) == each.key}


def _wanted(
    bench: _Bench, metrics: Sequence[Metric], found: dict[str, dict[tuple[str, int], Measurement]]
) -> Iterator[_Wanted]:
    for case in bench.cases:
        keys = [shot.key for shot in bench.shots_of(case)]
        lacking = tuple(m.name for m in metrics if any(key not in found[m.name] for key in keys))
        if lacking:
            yield case, lacking


def _answers(
    bench: _Bench, wanted: Sequence[_Wanted], metrics: Sequence[Metric], workers: int
) -> Iterator[list[Measurement]]:
    """Each case's records, in any order."""
    pictures = sum(len(bench.cases[case][1]) for case, _ in wanted)
    by_name = {metric.name: metric for metric in metrics}
    if workers < 2 or pictures < WORTH_POOLING:
        yield from (_of_case(bench, case, [by_name[name] for name in names]) for case, names in wanted)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(_in_process, bench.gallery.folder, case, [by_name[name] for name in names])
            for case, names in wanted
        ]
        try:
            for ready in as_completed(waiting):
                yield ready.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _of_case(bench: _Bench, case: str, metrics: Sequence[Metric]) -> list[Measurement]:
    shots = bench.shots_of(case)
    return [measure_picture(metric, shot) for metric in metrics for shot in shots]


def _in_process(folder: Path, case: str, metrics: Sequence[Metric]) -> list[Measurement]:
    return _of_case(_opened(folder), case, metrics)


@lru_cache(maxsize=1)
def _opened(folder: Path) -> _Bench:
    """Once a process."""
    return _Bench(open_gallery(folder))
