"""What a run's examinations of itself will take, by a model's size alone: no file of it has to be there."""

from fewstep.backbones.fake_model import ModelSize
from fewstep.data.mixture import used_tasks
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.cost import ExamSchedule, exam_schedule


def planned_examinations(recipe: Recipe, size: ModelSize) -> ExamSchedule | None:
    """The examinations of a recipe, fitted to their share; None if it has none."""
    guidance, steps = size.family.default_sampling(size.index)
    return exam_schedule(recipe, used_tasks(recipe.mixture), steps, guidance)
