"""What a run's examinations of itself will take, by a model's size alone: no file of it has to be there."""

from dataclasses import dataclass
from typing import Any

from fewstep.backbones.fake_model import ModelSize
from fewstep.data.mixture import used_tasks
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.cost import ExamSchedule, exam_schedule
from fewstep.run.self_exam.judge_cost import JudgeForecast, judge_forecast


@dataclass(frozen=True)
class PlannedExaminations:
    """How often a run examines itself, fitted to its share, and what a judge would take. None: it names no judge."""

    schedule: ExamSchedule
    judging: JudgeForecast | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps to a limit, or will not, in words."""
        return (*self.schedule.changed, *(() if self.judging is None else self.judging.warnings))

    @property
    def words(self) -> tuple[str, ...]:
        return (self.schedule.words, *(() if self.judging is None else (self.judging.words,)))

    def as_dict(self) -> dict[str, Any]:
        """For other programs."""
        return {**self.schedule.as_dict(), "judge": None if self.judging is None else self.judging.as_dict()}


def planned_examinations(recipe: Recipe, size: ModelSize) -> PlannedExaminations | None:
    """The examinations of a recipe; None if it has none.

    Raises:
        RecipeError: the judge's declaration cannot be used.
    """
    guidance, steps = size.family.default_sampling(size.index)
    tasks = used_tasks(recipe.mixture)
    schedule = exam_schedule(recipe, tasks, steps, guidance)
    return None if schedule is None else PlannedExaminations(schedule, judge_forecast(recipe, schedule, tasks))
