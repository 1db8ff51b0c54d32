"""What a run's own examinations add to its report: what to ship, curves with the teacher's band, pictures, events.

It reads files only, so it can be asked at any time, while the run goes on or after it failed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewstep.bench.paired.catalogue import BY_NAME, COMPOSITE, closeness
from fewstep.pages.charts import Series
from fewstep.pages.page import Chart, PageTable, Sheet, SheetPicture, StatCard, Strip, TableCell, TableRow
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.exam_cases import ExamCase, frozen_set
from fewstep.run.self_exam.plan import JUDGE
from fewstep.run.self_exam.ranked import FOLDER, RANKED
from fewstep.run.self_exam.results import TEACHER, few_name, read_few, read_results, read_teacher
from fewstep.runtime.errors import RunError
from fewstep.runtime.task import TASKS

CASES_A_TASK = 6  # rows of the sheet
MOMENTS = 5  # columns of the student
ROWS = (
    "Each row begins from one noise: the teacher with all its steps, the same at the student's steps without guidance, "
    "which are as many network calls as the student's, then the student after so many iterations."
)
JUDGED = "The mean score of a judge, 1 to 5; higher is better. Its answers come later than the other figures."


class ExamPages:
    """The examination folder of a run, as parts of a page. Everything is empty where there is none."""

    def __init__(self, run: RunDir):
        self.run, self.folder = run, run.folder / FOLDER
        self.results, teacher = read_results(self.folder), read_teacher(self.folder)
        self.band: Mapping[str, Mapping[str, float | None]] = {} if teacher is None else teacher["band"]
        self.few: Mapping[str, Any] = read_few(self.folder) or {}
        self.ranking = _ranking(self.folder)

    def cards(self) -> tuple[StatCard, ...]:
        """What to ship, and why."""
        chosen = self._to_ship()
        if chosen is None:
            return ()
        iteration, why = chosen
        return (StatCard(f"{iteration:,}", "iteration to ship", why),)

    def tables(self) -> tuple[PageTable, ...]:
        """The ranking of kept students, once `fewstep rank` was called."""
        if self.ranking is None:
            return ()
        names = (*BY_NAME, *(f"{task}.{JUDGE}" for task in TASKS))
        shown = [name for name in names if any(name in one["figures"] for one in self.ranking["students"])]
        columns = (self.ranking["by"], "behind the first", *shown)
        rows = [self._row(one, shown) for one in self.ranking["students"]]
        note = (
            "95 % of paired resamples of whole cases. A student whose interval behind the first holds 0 may be as good."
        )
        if self.few:
            rows.append(self._few_row(self.ranking["by"], shown))
            note += " The teacher's few steps are unguided: as many network calls as the student's."
        return (PageTable("Kept students, best first", columns, tuple(rows), note),)

    def charts(self) -> tuple[Chart, ...]:
        """One of each figure, over the iterations, with the teacher's band."""
        names = dict.fromkeys(name for result in self.results.values() for name in result["figures"])
        return tuple(self._chart(name) for name in sorted(names, key=_order))

    def sheets(self) -> tuple[Sheet, ...]:
        """The first cases of each task: source, teacher, teacher at few steps, and the student at several moments."""
        try:
            exam = frozen_set(self.run.folder)
        except RunError:
            return ()
        pictures = self.folder / "pictures"
        whos = sorted(path.name for path in pictures.glob("student-*")) if pictures.is_dir() else []
        if exam is None or not whos:
            return ()
        found = []
        for task in exam.tasks:
            strips = [self._strip(one, _spread(whos)) for one in _of_task(exam.cases, task)]
            shown = tuple(strip for strip in strips if strip.pictures)
            found += [Sheet(_TITLES[task], shown, ROWS)] if shown else []
        return tuple(found)

    def _strip(self, one: ExamCase, whos: Sequence[str]) -> Strip:
        seed = one.seeds[0]
        name = f"{one.stem}-{seed}.png"
        columns = [("Teacher", self.folder / "pictures" / TEACHER / name)]
        if self.few:
            few = few_name(self.few["steps"])
            columns.append((few.replace("-", " ").capitalize(), self.folder / "pictures" / few / name))
        columns += [
            (f"iteration {int(who.partition('-')[2]):,}", self.folder / "pictures" / who / name) for who in whos
        ]
        sources = [SheetPicture("Source", path) for path in one.case.references if path.is_file()]
        drawn = [SheetPicture(label, path) for label, path in columns if path.is_file()]
        return Strip(one.case.prompt, (*sources, *drawn))

    def _chart(self, name: str) -> Chart:
        points = [(i, r["figures"][name]) for i, r in self.results.items() if name in r["figures"]]
        lines = [Series("student", points)]
        own = self.band.get(name, {})
        ends = sorted(self.results)
        for label, key in (("teacher", "value"), ("teacher, 95 % low", "low"), ("teacher, 95 % high", "high")):
            value = own.get(key)
            if value is not None and ends:
                lines.append(Series(label, [(ends[0], value), (max(ends[-1], ends[0] + 1), value)]))
        figure = BY_NAME.get(name)
        note = (
            ""
            if figure is None
            else f"{figure.words[0].upper()}{figure.words[1:]}, {figure.unit}; {_AIMS[figure.aim]}."
        )
        note = "Of several figures (docs/examination.md); higher is better, 0 the best." if name == COMPOSITE else note
        note = JUDGED if name.endswith(f".{JUDGE}") else note
        if (few := self.few.get("figures", {}).get(name)) is not None:
            note = f"{note} The teacher at {self.few['steps']} steps: {few:.4g}.".strip()
        return Chart(name, tuple(lines), note=note)

    def _row(self, one: Mapping[str, Any], shown: Sequence[str]) -> TableRow:
        value, behind = one["value"], one["behind"]
        cells = [
            TableCell(_number(value["value"]), _between(value)),
            TableCell(_number(behind["value"]), _between(behind)),
        ]
        cells += [TableCell(_number(one["figures"].get(name))) for name in shown]
        chosen = self.ranking is not None and one["iteration"] == self.ranking["ship"]
        return TableRow(f"Iteration {one['iteration']:,}", tuple(cells), "to ship" if chosen else "")

    def _few_row(self, by: str, shown: Sequence[str]) -> TableRow:
        """What the student's network calls give without training."""
        own = self.few["figures"]
        cells = [
            TableCell(_number(own.get(by))),
            TableCell("–"),
            *(TableCell(_number(own.get(name))) for name in shown),
        ]
        return TableRow(f"Teacher, {self.few['steps']} steps", tuple(cells), "without guidance")

    def _to_ship(self) -> tuple[int, str] | None:
        if self.ranking is not None:
            return int(
                self.ranking["ship"]
            ), f"by {self.ranking['by']}, of {len(self.ranking['students'])} kept (fewstep rank)"
        name = self.run.recipe.run.best_by
        known = {i: r["figures"][name] for i, r in self.results.items() if i and name in r["figures"]}
        if not known or name is None:
            return None
        taught = self.band.get(name, {}).get("value")
        best = max(known, key=lambda i: (closeness(name, known[i], taught), -i))
        return best, f"by {name}, among what was examined so far"


def event_words(event: Mapping[str, Any]) -> str:
    """What an examination or the watch of losses noticed, as a line of the page. Good news has no answer."""
    after = int(event["iteration"]) + 1
    kind = str(event["kind"]).replace("_", " ")
    answer = "" if event["answer"] == "none" else f" Answer: {event['answer']}."
    return f"After {after:,} iterations: {kind}: {event['words']}.{answer}"


def pull_words(event: Mapping[str, Any]) -> str:
    """What the watch of the teachers noticed, as a line of the page."""
    trust = "" if event.get("trust") is None else f"; trust is now {event['trust']:.3g}"
    return (
        f"Iteration {event['iteration']:,}: {event['teacher']} pulled {event['pull']:.3g} times as hard as the base "
        f"({event['task']}, step {event['student_step']}; bound {event['bound']:g}). Answer: {event['answer']}{trust}."
    )


_TITLES: Mapping[str, str] = {"t2i": "Prompts", "edit": "Edits"}
_AIMS = {"higher": "higher is better", "lower": "lower is better", "teacher": "the teacher's own is best"}


def _ranking(folder: Path) -> Mapping[str, Any] | None:
    try:
        held: Mapping[str, Any] = json.loads((folder / RANKED).read_text())
        return held if {"by", "ship", "students"} <= held.keys() else None
    except (OSError, ValueError):
        return None


def _order(name: str) -> tuple[int, str]:
    known = (COMPOSITE, *BY_NAME)
    return (known.index(name) if name in known else len(known)), name


def _of_task(cases: Sequence[ExamCase], task: str) -> list[ExamCase]:
    return [one for one in cases if one.case.task == task][:CASES_A_TASK]


def _spread(whos: Sequence[str]) -> list[str]:
    """The first, the last, and evenly spaced ones between."""
    if len(whos) <= MOMENTS:
        return list(whos)
    return [whos[round(i * (len(whos) - 1) / (MOMENTS - 1))] for i in range(MOMENTS)]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _between(estimate: Mapping[str, Any]) -> str:
    return "" if estimate["low"] is None else f"{estimate['low']:.3g} to {estimate['high']:.3g}"
