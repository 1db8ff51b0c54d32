"""A run examines its student against its teachers, on its own ranks, and needs no judge for it.

    examination/teacher.json            the teacher's own values with their intervals, and records of its pictures
    examination/teacher-at-4.json       figures and records of the teacher's answers at the student's four steps
    examination/results/000048.json     figures, events, records and what was missing after 48 iterations
    examination/pace.json               after which iteration examinations became rarer, if they took too long

What is here follows from the frozen set, the teachers and the student's weights. A run that was killed measures again
what it had not written.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench.paired.catalogue import closeness
from fewstep.bench.paired.summary import missing_reasons, paired_figures, teacher_band, teacher_values
from fewstep.bench.paired.watch import WatchEvent, average_event, critic_event, events_of
from fewstep.encode.store import ConditioningStore
from fewstep.roles.roles import Roles
from fewstep.run.folder import RunDir
from fewstep.run.self_exam.cost import ExamSchedule, rarer
from fewstep.run.self_exam.drawing import ExamConditionings, ExamDrawer
from fewstep.run.self_exam.exam_cases import ExamCase
from fewstep.run.self_exam.prepare import PlannedExam
from fewstep.run.self_exam.records import ExamRecord
from fewstep.run.self_exam.results import (
    RESULTS,
    TEACHER,
    TEACHER_FILE,
    read_json_file,
    student_name,
    write_json_file,
)
from fewstep.run.self_exam.scoring import exam_scoring
from fewstep.runtime import durable
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.reporter import Reporter
from fewstep.runtime.task import Task
from fewstep.train.hooks import ExamEvent, SelfExam

Measuring = Callable[[ExamDrawer, str, Sequence[ExamCase]], list[ExamRecord]]
"""measuring(drawer, who, cases) gives the records of these cases, as `who` answered them."""
Scoring = Callable[[ExamDrawer, str, Sequence[ExamRecord]], list[ExamRecord]]
"""scoring(drawer, who, records) adds what models say of these pictures."""


@dataclass(frozen=True)
class RunClock:
    """What a run has written so far: where its metrics are. It tells the seconds that iterations and examinations took,
    and the critic's losses."""

    path: Path

    def lines(self) -> list[dict[str, Any]]:
        return list(durable.read_jsonl(self.path)) if self.path.is_file() else []


class RunExaminer:
    """The `SelfExaminer` of a run.

    Args:
        figures: names of the catalogue's figures that the set can give; others are not looked for.
        answers: warn, stop or none, by kind of event.
        decay: of the student's average.
        clock: the run's records.
        ranks: all of them take part.
        measuring: what measures pictures.
        scoring: models that score pictures, if the recipe names any.
        examined: is called on the first rank after each examination of the trainer's, with its iteration.
    """

    def __init__(
        self,
        drawer: ExamDrawer,
        schedule: ExamSchedule,
        figures: Sequence[str],
        answers: Mapping[str, str],
        decay: float,
        clock: RunClock,
        reporter: Reporter,
        ranks: Ranks,
        measuring: Measuring,
        scoring: Scoring | None = None,
        examined: Callable[[int], object] = lambda done: None,
    ):
        self.examined = examined
        self.drawer, self.schedule, self.figures, self.answers = drawer, schedule, tuple(figures), dict(answers)
        self.decay, self.clock = decay, clock
        self.reporter, self.ranks, self.measuring, self.scoring = reporter, ranks, measuring, scoring
        self.folder = drawer.exam.folder
        self._teacher: list[dict[str, Any]] | None = None
        self._told: set[str] = set()

    # ---- what the trainer asks

    def due(self, done: int) -> bool:
        pace = self.ranks.from_first(lambda: read_json_file(self.folder / "pace.json")) or {}
        every = pace["every"] if done > pace.get("after", done) else self.schedule.every
        return done % every == 0

    def examine(self, done: int) -> SelfExam:
        """Draws and measures the student as it is now. All ranks call it; the first one's answer counts."""
        begun_s = time.perf_counter()
        self.teacher()
        taught_s = time.perf_counter()  # once in a run, so it says nothing of how often there is time for the rest
        found = self.result_of(done)
        if not self.ranks.first:
            return SelfExam({})
        self.examined(done)
        ended_s = time.perf_counter()
        self._slow_down(done, ended_s - taught_s)
        return SelfExam(found["figures"], tuple(ExamEvent(**event) for event in found["events"]), ended_s - begun_s)

    def result_of(self, done: int) -> dict[str, Any]:
        """The same without the trainer: what results/ holds of the student, as its weights are now. Empty on all ranks
        but the first."""
        teacher, who = self.teacher(), student_name(done)
        self.drawer.student(who)
        records = self._records(who)
        return self._result(done, records, teacher) if self.ranks.first else {}

    def closeness(self, name: str) -> Callable[[float], float]:
        """Orders values of a figure, more being better."""
        return lambda value: closeness(name, value, self.teacher_values().get(name))

    # ---- the teacher

    def teacher(self) -> list[dict[str, Any]]:
        """The records of the teachers' answers, which are drawn and measured once. All ranks call it."""
        if self._teacher is None:
            whole = self.ranks.from_first(lambda: self._held_teacher() is not None)
            drawn = self.drawer.teachers()
            if not whole or any(self.ranks.gather(drawn)):
                records = self._records(TEACHER)
                if self.ranks.first:
                    self._keep_teacher(records)
            self.ranks.wait()
            self._teacher = self.ranks.from_first(self._held_teacher)
            self._answer_at_few(self._teacher or ())
        assert self._teacher is not None, "the teacher has just been measured"
        return self._teacher

    def _answer_at_few(self, teacher: Sequence[dict[str, Any]]) -> None:
        """The teachers at the student's levels, drawn and measured once: what its network calls give without training.
        A run of a version that did not draw them gets them at its next examination."""
        who, exam = self.drawer.few, self.drawer.exam.identity
        path = self.folder / f"{who}.json"
        whole = self.ranks.from_first(lambda: (read_json_file(path) or {}).get("set") == exam)
        drawn = self.drawer.teachers_at_few()
        if whole and not any(self.ranks.gather(drawn)):
            return
        records = self._records(who)
        if self.ranks.first:
            told = {"set": exam, "steps": len(self.drawer.grid), "figures": paired_figures(records, teacher)}
            write_json_file(path, {**told, "missing": missing_reasons(records, self.figures), "records": records})
        self.ranks.wait()

    def teacher_values(self) -> dict[str, float]:
        held = self._teacher if self._teacher is not None else self._held_teacher()
        return {} if held is None else teacher_values(held)

    def _held_teacher(self) -> list[dict[str, Any]] | None:
        held = read_json_file(self.folder / TEACHER_FILE)  # without a judge, whose answers come at any time
        if held is None or held.get("set") != self.drawer.exam.identity:
            return None
        records: list[dict[str, Any]] = held["records"]
        return records

    def _keep_teacher(self, records: Sequence[dict[str, Any]]) -> None:
        who = sorted({self.drawer.described(one) for one in self.drawer.exam.cases})
        told = {"set": self.drawer.exam.identity, "teachers": who, "band": teacher_band(records), "records": records}
        write_json_file(self.folder / TEACHER_FILE, told)
        self._say_missing(
            {name: f"of the teacher, {why}" for name, why in missing_reasons(records, self.figures).items()}
        )

    # ---- an examination

    def _records(self, who: str) -> list[dict[str, Any]]:
        """The records of all ranks, in the order of the set."""
        if not self.drawer.writes:
            own: list[ExamRecord] = []
        else:
            own = self.measuring(self.drawer, who, self.drawer.mine)
            own = own if self.scoring is None else self.scoring(self.drawer, who, own)
        gathered = [record.as_dict() for part in self.ranks.gather(own) for record in part]
        place = {one.case.id: n for n, one in enumerate(self.drawer.exam.cases)}
        return sorted(gathered, key=lambda record: place[record["case"]])

    def _result(
        self, done: int, records: Sequence[dict[str, Any]], teacher: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        found = paired_figures(records, teacher)
        missing = missing_reasons(records, self.figures)
        self._say_missing(missing)
        events = self._events(done, found) if done else []
        told = {
            "iteration": done,
            "set": self.drawer.exam.identity,
            "figures": found,
            "missing": missing,
            "events": events,
            "records": list(records),
        }
        write_json_file(self.result_path(done), told)
        return told

    def result_path(self, done: int) -> Path:
        return self.folder / RESULTS / f"{done:06d}.json"

    def _events(self, done: int, found: Mapping[str, float]) -> list[dict[str, Any]]:
        trained = [m for m in self.clock.lines() if m["phase"] == "distil" and m["iteration"] < done]
        gaps = [m["gap"] for m in trained if m.get("gap") is not None]
        events: list[WatchEvent | None] = [*events_of(found, self.teacher_values())]
        events += [critic_event(gaps), average_event(self.decay)]
        answered = [(event, self.answers.get(event.kind, "warn")) for event in events if event is not None]
        return [
            {"kind": event.kind, "words": event.words, "values": dict(event.values), "answer": answer}
            for event, answer in answered
            if answer != "none"
        ]

    def _say_missing(self, missing: Mapping[str, str]) -> None:
        for name, why in missing.items():
            if name not in self._told:
                self._told.add(name)
                self.reporter.say(f"examination: {name} is missing: {why}", "warning")

    def _slow_down(self, done: int, took_s: float) -> None:
        """Makes later examinations rarer if one takes more than its share of the time between two, and says so. What is
        decided stands in a file, so a run that goes on examines at the same iterations."""
        trained_s = [m["seconds"]["iteration"] for m in self.clock.lines() if m["phase"] == "distil"]
        if done == 0 or not trained_s:
            return
        path, share = self.folder / "pace.json", self.schedule.plan.share
        now = (read_json_file(path) or {"every": self.schedule.every})["every"]
        each_s = sum(trained_s) / len(trained_s)
        every = rarer(now, self.schedule.every, took_s / each_s, share)
        if every == now:
            return
        write_json_file(path, {"after": done, "every": every})
        self.reporter.say(
            f"an examination takes as long as {took_s / each_s:.3g} iterations, more than examine.share {share:g} of "
            f"{now}: from now on every {every} iterations",
            "warning",
        )


def run_examiner(
    run: RunDir,
    planned: PlannedExam,
    store: ConditioningStore,
    negatives: Mapping[Task, Sequence[str]],
    roles: Roles,
    ranks: Ranks,
    reporter: Reporter,
    measuring: Measuring,
    examined: Callable[[int], object] = lambda done: None,
) -> RunExaminer:
    """
    Args:
        store: holds the conditionings of the set, and of the negative prompts with its pictures.
        negatives: the negative prompts of each task.
        measuring: what measures pictures (`measuring.py`); it is handed in, as whoever calls imports it anyway.
        examined: as of `RunExaminer`.

    Raises:
        StoreError: a case of the set that was not encoded.
    """
    recipe, exam = run.recipe, planned.freeze(run.folder)
    batch = -(-recipe.run.batch // (ranks.world * recipe.run.most_parts))
    conditionings = ExamConditionings.load(exam.cases, store, recipe.size, negatives)
    drawer = ExamDrawer(roles, exam, conditionings, recipe.student.grid, recipe.run.precision, batch, ranks)
    assert recipe.examine is not None, "there is a planned examination"
    return RunExaminer(
        drawer,
        planned.schedule,
        planned.figures,
        recipe.examine.answers.model_dump(),
        recipe.student.ema,
        RunClock(run.metrics_path),
        reporter,
        ranks,
        measuring,
        exam_scoring(recipe.examine, roles.student.backbone.device),
        examined,
    )
