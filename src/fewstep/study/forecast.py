"""`fewstep study plan`: the forecast of a study's work."""

from dataclasses import dataclass

from fewstep.backbones.embedded import POCKET
from fewstep.roles.teacher_plan import BASE, teacher_plan
from fewstep.run.recipe import Recipe
from fewstep.runtime.task import TASKS, Task
from fewstep.study.grid import Run, StudyGrid
from fewstep.study.world_categories import WORLD_CATEGORIES


@dataclass(frozen=True)
class NetworkCalls:
    """Network evaluations per sample and update, forward passes only. The last ones of the student and the critic are
    followed by backward passes. teachers: the mean over student steps after the ramp, for the category with the most
    teachers."""

    student: int
    critic: int
    teachers: float


def calls(recipe: Recipe) -> NetworkCalls:
    """The network calls of an update, whatever the model."""
    teachers = sum(_teachers(recipe, task) * share for task, share in shares(recipe).items())
    return NetworkCalls(recipe.student.steps + 1, recipe.critic.updates + 1, teachers)


def shares(recipe: Recipe) -> dict[Task, float]:
    """The tasks that have batches, each with its share of the batches over the whole run."""
    iterations, found = recipe.run.iterations, dict[Task, float]()
    for number, start, end in recipe.mixture.spans(iterations):
        ratio = recipe.mixture.values[number].weights
        for task, weight in zip(TASKS, ratio, strict=True):
            found[task] = found.get(task, 0.0) + weight / sum(ratio) * (end - start) / iterations
    return {task: share for task, share in found.items() if share}


def _teachers(recipe: Recipe, task: Task) -> float:
    """Teacher calls per sample, averaged over student steps, for the category with the most."""
    plan, steps = teacher_plan(recipe.teachers, recipe.student.steps), range(recipe.student.steps)
    branches = [_branches(recipe, name, task) for name in plan.names]
    named = {category for column in plan.schedules for category in column.categories or ()}

    def of(category: str | None) -> float:
        rows = [plan.row(k, 1.0, task, category) for k in steps]
        return sum(n for row in rows for n, weight in zip(branches, row, strict=True) if weight) / len(steps)

    return max(of(category) for category in (*sorted(named), None))


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
