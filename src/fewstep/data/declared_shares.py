"""What a recipe declares for its first n iterations, as shares of the samples. The realised counts are compared with
it."""

from fractions import Fraction

from fewstep.data.mixture import (
    Ratio,
    task_turns,
)
from fewstep.data.phases import Phases
from fewstep.data.plan import DataPlan
from fewstep.runtime.task import TASKS, Task


def declared_tasks(mixture: Phases[Ratio], iterations: int) -> dict[Task, Fraction]:
    """Each task's share. The realised counts differ from it by less than one batch per phase."""
    found = dict.fromkeys(TASKS, Fraction(0))
    for number, start, end in mixture.spans(iterations):
        ratio = mixture.values[number]
        for task, weight in zip(TASKS, ratio.weights, strict=True):
            found[task] += Fraction((end - start) * weight, iterations * sum(ratio.weights))
    return {task: share for task, share in found.items() if share}


def declared_categories(mixture: Phases[Ratio], data: DataPlan, task: Task, iterations: int) -> dict[str, Fraction]:
    """Each category's share of the task's samples; empty if the sources' weights decide."""
    turns = task_turns(iterations, mixture, task)
    shares = data.category_shares(task)
    found: dict[str, Fraction] = {}
    for number, start, end in shares.spans(iterations):
        weights = shares.values[number]
        batches = task_turns(end, mixture, task) - task_turns(start, mixture, task)
        for category, weight in weights.items():
            if batches and weight:
                part = Fraction(batches * weight, turns * sum(weights.values()))
                found[category] = found.get(category, Fraction(0)) + part
    return found
