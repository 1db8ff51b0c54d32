"""What follows from looking at a student: records, an end by patience, an end by an event, the best by closeness."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewstep.runtime.errors import TrainingStopped
from fewstep.train.hooks import ExamEvent, SelfExam
from fewstep.train.trainer import Trainer
from tests.train.runs import toy_trainer


class Examined:
    """A self-examination whose figures are told. events: by iteration."""

    def __init__(self, values: dict[int, float], events: dict[int, ExamEvent] | None = None, every: int = 1):
        self.values, self.events, self.every, self.asked = values, events or {}, every, list[int]()

    def due(self, done: int) -> bool:
        return done % self.every == 0

    def examine(self, done: int) -> SelfExam:
        self.asked.append(done)
        figures = {"t2i.psnr": self.values[done]} if done in self.values else {}
        return SelfExam(figures, [self.events[done]] if done in self.events else [], 0.5)


def trainer_with(
    folder: Path, exam: Examined, closeness: Callable[[float], float] | None = None, **given: Any
) -> Trainer:
    patience = given.pop("patience", None)
    trainer = toy_trainer(folder, best_by="t2i.psnr", examine_every_iterations=1, **given)
    trainer.hooks = replace(trainer.hooks, self_exam=exam, examine=None, patience=patience, closeness=closeness)
    trainer.ranking.closeness = closeness
    return trainer


def lines(folder: Path, phase: str) -> list[dict[str, Any]]:
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["phase"] == phase]


def test_a_run_without_a_better_student_ends_and_ends_again_when_it_is_called_again(tmp_path: Path) -> None:
    values = {0: 99.0, 1: 10.0, 2: 12.0, 3: 11.0, 4: 11.5, 5: 20.0, 6: 21.0}
    outcome = trainer_with(tmp_path, Examined(values), patience=2).train()
    assert (outcome.iterations, outcome.stopped) == (4, False)
    assert outcome.best is not None
    assert outcome.best.iteration == 2, "the start is no student"
    again = Examined(values)
    assert trainer_with(tmp_path, again, patience=2).train().iterations == 4
    assert again.asked == []
    assert trainer_with(tmp_path, Examined(values), patience=5).train().iterations == 6


def test_the_best_is_the_nearest_where_closeness_says_so(tmp_path: Path) -> None:
    values = {i: float(value) for i, value in enumerate((0, 50, 43, 39, 30, 41.5, 60))}
    outcome = trainer_with(tmp_path, Examined(values), lambda value: -abs(value - 40)).train()
    assert outcome.best is not None
    assert outcome.best.iteration == 3


def test_a_figure_that_is_missing_once_ranks_nobody_and_the_run_goes_on(tmp_path: Path) -> None:
    outcome = trainer_with(tmp_path, Examined({0: 1.0, 2: 5.0, 6: 3.0})).train()
    assert outcome.iterations == 6
    assert outcome.best is not None
    assert outcome.best.iteration == 2


def test_an_event_is_recorded_and_stop_ends_the_run_saved(tmp_path: Path) -> None:
    values = dict.fromkeys(range(7), 1.0)
    warned = ExamEvent("tint", "much", {"edit.tint": 3.0}, "warn")
    trainer_with(tmp_path / "warned", Examined(values, {2: warned})).train()
    (event,) = lines(tmp_path / "warned", "event")
    assert (event["kind"], event["iteration"], event["answer"]) == ("tint", 1, "warn")

    trainer = trainer_with(tmp_path / "stopped", Examined(values, {3: replace(warned, answer="stop")}))
    with pytest.raises(TrainingStopped, match=r"tint: much; answer: stop \(examine\.answers\.tint\)\. Saved in"):
        trainer.train()
    assert trainer.checkpoints.latest() == tmp_path / "stopped" / "checkpoints" / "iteration-000003"
    assert trainer_with(tmp_path / "stopped", Examined(values)).train().iterations == 6
    assert len(lines(tmp_path / "stopped", "event")) == 1, "what was told stays told"


def test_examinations_take_part_in_the_records_with_their_seconds(tmp_path: Path) -> None:
    exam = Examined(dict.fromkeys(range(7), 1.0), every=3)
    trainer_with(tmp_path, exam).train()
    assert exam.asked == [0, 3, 6]
    assert [(line["iteration"], line["examination_seconds"]) for line in lines(tmp_path, "examine")] == [
        (0, 0.5),
        (3, 0.5),
        (6, 0.5),
    ]
