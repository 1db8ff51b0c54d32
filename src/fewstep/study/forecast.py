"""`fewstep study plan`: the forecast of a study's work."""

from collections.abc import Sequence
from dataclasses import dataclass

from fewstep.backbones.embedded import POCKET
from fewstep.roles.teacher_plan import BASE, teacher_plan
from fewstep.run.recipe import Recipe
from fewstep.runtime.task import TASKS, Task
from fewstep.study.grid import Run, StudyGrid
from fewstep.study.world_categories import WORLD_CATEGORIES


@dataclass(frozen=True)
class NetworkCalls:
    """Network evaluations per sample and update, forward passes only, each a mean over the tasks' batches.

    The last ones of the student and the critic are followed by backward passes. teachers: the mean over student steps
    after the ramp, for the category with the most teachers.
    """

    student: float
    critic: float
    teachers: float


def calls(recipe: Recipe) -> NetworkCalls:
    """The network calls of an update, whatever the model; its optional terms' too."""
    student = sum(_student(recipe, task) * share for task, share in shares(recipe).items())
    teachers = sum(_teachers(recipe, task) * share for task, share in shares(recipe).items())
    return NetworkCalls(student, recipe.critic.updates + 1, teachers)


def shares(recipe: Recipe) -> dict[Task, float]:
    """The tasks that have batches, each with its share of the batches over the whole run."""
    iterations, found = recipe.run.iterations, dict[Task, float]()
    for number, start, end in recipe.mixture.spans(iterations):
        ratio = recipe.mixture.values[number].weights
        for task, weight in zip(TASKS, ratio, strict=True):
            found[task] = found.get(task, 0.0) + weight / sum(ratio) * (end - start) / iterations
    return {task: share for task, share in found.items() if share}


def _student(recipe: Recipe, task: Task) -> float:
    """Rollouts, the forward with a gradient, and that of the first-step anchor. Where the critic learns the improved
    step alone, a rollout ends there."""
    plan, critic = recipe.student, recipe.critic
    improved = _improved_steps(recipe, task)
    each = plan.steps if critic.exit_step == "drawn" else sum(k + 1 for k in improved) / len(improved)
    rollouts = 1 + critic.new_rollouts(critic.updates)
    return rollouts * each + int(not plan.forward_once) + int(recipe.objective.anchored(task))


def _improved_steps(recipe: Recipe, task: Task) -> range:
    """The student steps that learn by matching, each as often as the others."""
    return range(recipe.objective.first_matched_step(task), recipe.student.steps)


def _teachers(recipe: Recipe, task: Task) -> float:
    """Teacher calls per sample, averaged over student steps, for the category with the most."""
    plan, steps = teacher_plan(recipe.teachers, recipe.student.steps), range(recipe.student.steps)
    branches = [_branches(recipe, name, task) for name in plan.names]
    named = {category for column in plan.schedules for category in column.categories or ()}

    def of(category: str | None) -> float:
        rows = [plan.row(k, 1.0, task, category) for k in steps]
        by_step = [[n for n, weight in zip(branches, row, strict=True) if weight] for row in rows]
        return _calls_of_teachers(recipe, task, by_step)

    return max(of(category) for category in (*sorted(named), None))


def _calls_of_teachers(recipe: Recipe, task: Task, by_step: Sequence[Sequence[int]]) -> float:
    """The mean number of calls in an update.

    Args:
        by_step: at each student step, the calls of each teacher that runs there: 2 of a guided one.
    """
    objective, improved = recipe.objective, _improved_steps(recipe, task)
    mean = sum(sum(by_step[k]) for k in improved) / len(improved)
    guided = sum(n > 1 for k in improved for n in by_step[k]) / len(improved)
    segment, anchor = objective.segment_guidance, objective.first_step_anchor
    evaluations = 1 + (0 if segment is None else segment.teacher_steps)
    evaluations += int(objective.preservation > 0 and task == "edit")
    anchored = 0 if anchor is None or task not in anchor.tasks else anchor.teacher_steps * sum(by_step[0])
    return evaluations * mean + anchored + (guided if objective.decoupled_guidance else 0)


def _branches(recipe: Recipe, name: str, task: Task) -> int:
    """2 if the recipe guides the teacher, else 1. Guidance that is left to the model family counts as none."""
    given = (recipe.teachers.base if name == BASE else recipe.teachers.named[name]).guidance or {}
    return 2 if task in given and given[task].guidance().active else 1


def picture_count(grid: StudyGrid) -> int:
    """The number of pictures of one examination; for a model that is not embedded, as many as in the pocket world."""
    categories = WORLD_CATEGORIES.get(grid.recipe.model, WORLD_CATEGORIES[POCKET])
    return grid.plan.protocol.cases * sum(len(categories[task]) for task in grid.plan.protocol.tasks)


def minutes(run: Run, rates: dict[str, float]) -> float | None:
    """Training time at these seconds per iteration of each task; None if one was not measured."""
    mixture = shares(run.recipe)
    if not set(mixture) <= set(rates):
        return None
    return run.recipe.run.iterations * sum(rates[task] * share for task, share in mixture.items()) / 60
