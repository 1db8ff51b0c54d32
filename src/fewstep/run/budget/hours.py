"""The time of a run, from what was declared or measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fewstep.run.budget.budget import GPUBudget
from fewstep.run.budget.measured import METRICS_FILE, measured_seconds, refuse_rates
from fewstep.runtime.task import Task

UTILISATION = 0.4  # ours, only where a peak rate is declared: the share of it that training reaches


@dataclass(frozen=True)
class IterationTime:
    """The time of an iteration. seconds: by task. basis: where they come from, for messages."""

    seconds: Mapping[Task, float]
    basis: str

    def hours(self, budget: GPUBudget) -> float:
        """Hours of the whole run. A warm-up iteration is counted as a whole one."""
        distil = sum(self.seconds[task] * n for task, n in budget.iterations.items())
        warm_up = budget.recipe.critic.warmup_iterations * max(self.seconds.values())
        return (distil + warm_up) / 3600


def iteration_time(
    budget: GPUBudget, seconds: float | None, measured: Path | None, tflops: float | None
) -> IterationTime | None:
    """The time of an iteration, from what was declared or measured; None if nothing was.

    Raises:
        RecipeError, RunError: as `refuse_rates`.
    """
    tasks = tuple(budget.iterations)
    refuse_rates(seconds, measured, tflops, tasks)
    if seconds is not None:
        return IterationTime(dict.fromkeys(tasks, seconds), f"{seconds:g} s an iteration, as declared")
    if measured is not None:
        return IterationTime(measured_seconds(measured, tasks), f"medians of {measured / METRICS_FILE}")
    if tflops is not None:
        speed = tflops * 1e12 * UTILISATION
        by_task = {one.batch_shape.task: one.flops / speed for one in budget.usual}
        return IterationTime(
            by_task,
            f"a peak of {tflops:g} TFLOP/s a GPU, as declared, of which {UTILISATION:.0%} are reached (assumed)",
        )
    return None
