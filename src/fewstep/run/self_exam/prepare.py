"""From a recipe to the examination of its run: which cases, how often, and what its figures will be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewstep.backbones.embedded import model_folder
from fewstep.backbones.families import family_of, model_summary
from fewstep.data.case_sizes import CaseSizes
from fewstep.data.cases import Case
from fewstep.data.mixture import used_tasks
from fewstep.run.recipe import Recipe
from fewstep.run.self_exam.chosen_cases import exam_cases
from fewstep.run.self_exam.cost import ExamSchedule, exam_schedule
from fewstep.run.self_exam.exam_cases import ExamCase, FrozenSet, freeze, frozen_set
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class PlannedExam:
    """The cases, frozen already where the run has begun, and how often they are drawn."""

    schedule: ExamSchedule
    cases: tuple[ExamCase, ...]
    asked: str

    @property
    def plain_cases(self) -> tuple[Case, ...]:
        return tuple(one.case for one in self.cases)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the catalogue's figures that the set can give."""
        return tuple(figure.name for figure in self.schedule.plan.figures(self.tasks))

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(dict.fromkeys(one.case.task for one in self.cases))

    def freeze(self, run: Path) -> FrozenSet:
        """The set in the run folder, written there if the run begins."""
        return freeze(run, self.cases, self.asked)


def planned_exam(recipe: Recipe, run: Path) -> PlannedExam | None:
    """The examination of a recipe; None if it has none. A run that has begun keeps the set that it began with.

    Raises:
        RecipeError: a suite or a file that cannot be used. CaseError: a reference that the model refuses. RunError: the
            run began with another set.
    """
    if recipe.examine is None:
        return None
    summary, tasks = model_summary(recipe.model), used_tasks(recipe.mixture)
    schedule = exam_schedule(recipe, tasks, summary.steps, summary.guidance)
    if schedule is None:
        return None
    plan = recipe.examine
    asked = repr((plan.t2i, plan.edit, plan.prompts, plan.edits, plan.seeds, tasks))
    held = frozen_set(run, asked)
    if held is not None:
        return PlannedExam(schedule, held.cases, asked)
    cases = exam_cases(schedule.plan, tasks, recipe.store_folder(run) / "cases")
    return PlannedExam(schedule, _settled(cases, recipe), asked)


def _settled(cases: Sequence[ExamCase], recipe: Recipe) -> tuple[ExamCase, ...]:
    """The cases at the sizes at which the student will be sampled: edits as the family draws them, which is how they
    are trained; prompts at the recipe's `size`."""
    plan = recipe.data.sizes.model_copy(update={"t2i": ()})
    sizes = CaseSizes(plan, recipe.size, recipe.run.seed, family_of(model_folder(recipe.model)))

    def settled(one: ExamCase) -> ExamCase:
        height, width = sizes.of(one.case)
        return replace(one, case=replace(one.case, height=height, width=width))

    return tuple(map(settled, cases))
