"""Verdicts and records as numbers that can be paired; reads files only.

A row of a table is a cell (several runs), a teacher (no runs: its pictures are drawn once), or the specialised teachers
together, each on the categories that it teaches. Rows are named: CELL, CELL@SHARE (after that share of the iterations),
teacher:NAME, teacher:specialised.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.bench.coverage import ENOUGH
from fewstep.bench.lines import LineFields, mistyped
from fewstep.bench.verdict import contradiction
from fewstep.runtime import durable
from fewstep.runtime.errors import JudgeError
from fewstep.study.folder import StudyFolder, StudyManifest
from fewstep.study.intervals import (
    Interval,
    ScoreArray,
    crossed_interval,
)
from fewstep.study.plan import BASE

ATTEMPTS = ".attempts.jsonl"  # the file of attempts beside a judge's verdicts
REMEDY = "judge that gallery again"
ASKED: LineFields = {"judge": "text", "case": "text", "seed": "whole", "status": "text"}
SCORED: LineFields = {**ASKED, "task": "text", "category": "text", "score": "number", "sub_scores": "numbers?"}
TEACHER, SPECIALISED = "teacher:", "specialised"
NO_RUN = None  # in place of a run's seed

Column = tuple[str, str]  # task, category
ColumnScores = Mapping[Column, Mapping[str, float]]  # by case
JudgeScores = Mapping[str, ColumnScores]  # judge, or measure -> scores of one gallery
EXACT = "exact_psnr"
MEASURES = (EXACT, "preserved_psnr", "flat_noise")
RECORDED = {EXACT: (EXACT, "exact_db"), "preserved_psnr": ("preserved_psnr", "preserved_db")}  # by the worlds' readers


@dataclass(frozen=True)
class ScoreRow:
    """One row's scores: by run seed, or under NO_RUN alone."""

    name: str
    answers: Mapping[int | None, JudgeScores]

    @property
    def seeds(self) -> frozenset[int]:
        return frozenset(seed for seed in self.answers if seed is not NO_RUN)

    def at(self, seed: int | None) -> JudgeScores:
        """The scores of this seed's run; a teacher's scores are the same for every seed."""
        return self.answers[NO_RUN] if NO_RUN in self.answers else self.answers[seed]


@dataclass(frozen=True)
class ExaminedRuns:
    """All rows of one study that have been examined. read: a function from a gallery's folder to its scores; empty if
    there are none."""

    place: StudyFolder
    manifest: StudyManifest
    read: Callable[[Path], JudgeScores]

    def row(self, name: str) -> ScoreRow | None:
        """None if it has not been examined, or is no row of this study."""
        if name == f"{TEACHER}{SPECIALISED}":
            return self._specialised()
        if name.startswith(TEACHER):
            found: Mapping[int | None, JudgeScores] = {
                NO_RUN: self.read(self.place.teacher(name.removeprefix(TEACHER)))
            }
        else:
            found = self._runs(name)
        answered = {seed: answers for seed, answers in found.items() if answers}
        return ScoreRow(name, answered) if answered else None

    def _runs(self, name: str) -> Mapping[int | None, JudgeScores]:
        cell, _, share = name.partition("@")
        moment = max(1, round(float(share or 1) * self.manifest.iterations))
        if moment not in self.manifest.moments or cell not in self.manifest.plan.cells:
            return {}
        moments = (moment,) if share else self.manifest.moments[-self.manifest.plan.protocol.mean_of_last :]
        runs = {s: [self.place.student(self.manifest.run(cell, s), m) for m in moments] for s in self.manifest.seeds}
        return {s: mean_scores([self.read(folder) for folder in folders]) for s, folders in runs.items()}

    def _specialised(self) -> ScoreRow | None:
        """Every category by the teacher that teaches it, the others by the base."""
        names = [BASE, *self.manifest.covers]
        rows = {name: self.row(f"{TEACHER}{name}") for name in names}
        if len(names) < 2 or not all(rows.values()):
            return None
        told = {name: row.at(NO_RUN) for name, row in rows.items() if row is not None}
        answers = {
            judge: {column: told[self._teaching(column)].get(judge, {}).get(column, {}) for column in scores}
            for judge, scores in told[BASE].items()
        }
        return ScoreRow(f"{TEACHER}{SPECIALISED}", {NO_RUN: answers})

    def _teaching(self, column: Column) -> str:
        task, category = column
        for name, cover in self.manifest.covers.items():
            if task in (cover["tasks"] or [task]) and category in (cover["categories"] or [category]):
                return name
        return BASE


def mean_scores(galleries: Sequence[JudgeScores]) -> JudgeScores:
    """Case by case, over galleries of one run; of the judges and cases that all of them have."""
    first, *others = galleries
    if not others:
        return first
    return {
        judge: {
            column: {
                case: float(np.mean([value, *(other[judge][column][case] for other in others)]))
                for case, value in cases.items()
                if all(case in other[judge].get(column, {}) for other in others)
            }
            for column, cases in columns.items()
        }
        for judge, columns in first.items()
        if all(judge in other for other in others)
    }


def verdict_lines(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """A gallery's verdicts by judge, as lines. Verdicts from elsewhere may state less than ours, and be appended: a
    last line that a kill cut off counts as not judged.

    Raises:
        JudgeError: a line that is no verdict, or a score beyond the scale. Names the file and the line.
    """
    files = [file for file in sorted(folder.glob("verdicts/*.jsonl")) if not file.name.endswith(ATTEMPTS)]
    found: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        for number, line in durable.numbered_records(file, cut_off=lambda number: None):
            wrong = "cut off" if line is None else mistyped(line, SCORED if _scored(line) else ASKED)
            if line is None or wrong or (wrong := contradiction(line)):
                raise JudgeError(f"{file}:{number}: the line is no verdict ({wrong}); {REMEDY}")
            found.setdefault(line["judge"], []).append(line)
    return found


def verdicts(folder: Path) -> JudgeScores:
    """The scores of a gallery's judges. A refused or out-of-range answer has no score here. A judge that scored too
    little of the gallery has none at all (`incomplete_judges`)."""
    short = incomplete_judges(folder)
    return _by_judge(
        (judge, line, float(line["score"]))
        for judge, lines in verdict_lines(folder).items()
        if judge not in short
        for line in lines
        if _scored(line)
    )


def incomplete_judges(folder: Path) -> dict[str, tuple[int, int]]:
    """Judges that scored too little of a gallery to be trusted, with how many pictures of how many. The pictures that a
    judge refused, or that a stopped pass has not reached, may be the worst."""
    drawn = {(line["case"], line["seed"]) for line in durable.read_jsonl(folder / "manifest.jsonl")}
    found = {}
    for judge, lines in verdict_lines(folder).items():
        asked = drawn | {(line["case"], line["seed"]) for line in lines}
        scored = {(line["case"], line["seed"]) for line in lines if _scored(line)}
        if len(scored) < ENOUGH * len(asked):
            found[judge] = len(scored), len(asked)
    return found


def _scored(line: Mapping[str, Any]) -> bool:
    return line.get("status") == "ok" and line.get("score") is not None


def measures(folder: Path) -> JudgeScores:
    """The probe's measurements that are no score, such as dB to the exact answer."""
    return _by_judge(
        (name, line, float(line[key]))
        for line in durable.read_jsonl(folder / "records.jsonl")
        for name in MEASURES
        for key in RECORDED.get(name, (name,))
        if line.get(key) is not None
    )


def _by_judge(told: Iterable[tuple[str, Mapping[str, Any], float]]) -> JudgeScores:
    """Several seeds and repeats of a case are replaced by their mean."""
    found: dict[str, dict[Column, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for judge, line, value in told:
        found[judge][line["task"], line["category"]][line["case"]].append(value)
    return {
        judge: {c: {case: float(np.mean(values)) for case, values in cases.items()} for c, cases in columns.items()}
        for judge, columns in found.items()
    }


# ---- numbers


def with_average(categories: Sequence[str]) -> dict[str, list[str]]:
    """The columns of a table, each with the categories that it is a mean of."""
    return {**{category: [category] for category in categories}, "average": list(categories)}


def measured_categories(row: ScoreRow, measure: str, task: str) -> list[str]:
    """The categories of a task that a measurement applies to; by the row's first run."""
    some = next(iter(row.answers.values()))
    return sorted(category for t, category in some.get(measure, {}) if t == task)


def common_judges(rows: Sequence[ScoreRow]) -> list[str]:
    """The judges that all rows have in all their runs."""
    sets = [set(answers) for row in rows for answers in row.answers.values()]
    return sorted(set.intersection(*sets)) if sets else []


def level(row: ScoreRow, judge: str, task: str, categories: Sequence[str]) -> Interval | None:
    """The row's mean score over categories; None if a category has no scores."""
    return _estimate([row], lambda matrices: matrices[0], [judge], task, categories)


def combined_level(
    rows: Sequence[ScoreRow], judges: Sequence[str], task: str, categories: Sequence[str]
) -> Interval | None:
    """The mean of several rows over categories and judges; None as for `contrast`."""
    return _estimate(rows, lambda matrices: np.asarray(np.mean(matrices, axis=0)), judges, task, categories)


def contrast(
    higher: Sequence[ScoreRow], lower: Sequence[ScoreRow], judges: Sequence[str], task: str, categories: Sequence[str]
) -> Interval | None:
    """The mean of `higher` minus the mean of `lower`, paired by run seed and case; a case's score is its mean over the
    judges. None if they have no run seed in common, or no case in some category."""

    def apart(matrices: Sequence[ScoreArray]) -> ScoreArray:
        over, under = matrices[: len(higher)], matrices[len(higher) :]
        return np.asarray(np.mean(over, axis=0) - np.mean(under, axis=0))

    return _estimate([*higher, *lower], apart, judges, task, categories)


def _estimate(
    rows: Sequence[ScoreRow],
    combined: Callable[[Sequence[ScoreArray]], ScoreArray],
    judges: Sequence[str],
    task: str,
    categories: Sequence[str],
) -> Interval | None:
    runs = [row.seeds for row in rows if row.seeds]
    seeds: list[int | None] = sorted(frozenset.intersection(*runs)) if runs else [NO_RUN]  # type: ignore[assignment]
    if not rows:
        return None
    groups = [_matrices(rows, seeds, judges, (task, category)) for category in categories]
    if not seeds or not judges or not groups or any(m is None for m in groups):
        return None
    return crossed_interval([combined(m) for m in groups if m is not None])


def _matrices(
    rows: Sequence[ScoreRow], seeds: Sequence[int | None], judges: Sequence[str], column: Column
) -> list[ScoreArray] | None:
    """A matrix for each row, runs down and cases across, with the cases that every row has from every judge."""
    told = [[[row.at(s).get(judge, {}).get(column, {}) for judge in judges] for s in seeds] for row in rows]
    everyone = [set(scores) for by_seed in told for by_judge in by_seed for scores in by_judge]
    cases = sorted(set.intersection(*everyone)) if everyone else []
    if not cases:
        return None
    return [
        np.array([[np.mean([scores[case] for scores in by_judge]) for case in cases] for by_judge in by_seed])
        for by_seed in told
    ]
