"""`fewstep.plan`: all that a run needs, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fewstep.data.mixture import used_tasks
from fewstep.run.budget.budget import (
    Change,
    GPUBudget,
    IterationTime,
    as_json,
    changes_to_fit,
    gpu_budget,
    iteration_time,
)
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.measured import refuse_rates
from fewstep.run.recipe import Recipe
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class RunNeeds:
    """What a run needs on each GPU it is meant for.

    Args:
        budget: memory and work, task by task, as they were counted in a rehearsed iteration.
        card: the GPU it is to fit; None where none was named.
        changes: what to change in the recipe, one after another, where it does not fit.
        time: seconds of an iteration; None where no rate was given.
    """

    budget: GPUBudget
    card: GPUMemory | None
    changes: tuple[Change, ...]
    time: IterationTime | None

    @property
    def bytes(self) -> int:
        """Of memory, at the fullest moment of any task."""
        return self.budget.bytes

    @property
    def memory(self) -> Mapping[Task, Mapping[str, int]]:
        """Bytes by task and by what they are for, at that task's fullest moment."""
        return {task: dict(peak.peak) for task, peak in self.budget.peaks.items()}

    @property
    def fits(self) -> bool | None:
        """Whether it fits the GPU that was named."""
        return None if self.card is None else self.budget.bytes <= self.card.bytes

    @property
    def flops(self) -> float:
        """Floating-point operations of the mean iteration, on all GPUs together."""
        return self.budget.flops

    @property
    def hours(self) -> float | None:
        """Of the whole run."""
        return None if self.time is None else self.time.hours(self.budget)

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint on disk."""
        return self.budget.checkpoint

    @property
    def disk_bytes(self) -> int:
        """Of what a finished run keeps: whole checkpoints, and the averaged student of every save."""
        return self.budget.disk

    @property
    def store_bytes(self) -> int | None:
        """Of the conditioning store, about; None where the cases are not on this machine."""
        return None if self.budget.store is None else self.budget.store.bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be assumed."""
        return self.budget.notes

    def as_json(self) -> str:
        """The same as `fewstep plan --json`."""
        return as_json(self.budget, self.card, list(self.changes), self.time)


def plan(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    gpu: int | None = None,
    gpus: int = 1,
    per_machine: int | None = None,
    seconds_per_iteration: float | None = None,
    measured: str | Path | None = None,
    tflops: float | None = None,
) -> RunNeeds:
    """Memory, work, disk and hours of a run, before anything is loaded. Needs no weights and no GPU: an iteration is
    rehearsed on tensors that hold nothing.

    Args:
        out: the run folder that it would have; `runs/NAME` if not given.
        gpu: memory of the GPU that it is to fit, in GB of 10^9 bytes: 24, 48, 80, 141.
        gpus: how many share each batch, and weights as `run.sharding` says.
        per_machine: how many of them a machine has; 8 if not given.
        seconds_per_iteration: a rate to tell the hours by. Of this and the next two, give at most one.
        measured: a run folder, whose metrics tell the rate.
        tflops: a GPU's peak rate in TFLOP/s, of which 40 % are taken to be reached.

    Raises:
        RecipeError: fewer samples than GPUs, or two rates. ModelError: a model of unknown size. CaseError: cases that
            are here and cannot be used. RunError: `measured` is no run.
    """
    refuse_rates(seconds_per_iteration, measured, tflops, used_tasks(recipe.mixture))
    on_gpu = gpu is not None or recipe.run.device.startswith("cuda") or _finds_gpu(recipe)
    store = recipe.store_folder(Path(out) if out is not None else Path("runs") / recipe.name)
    budget = gpu_budget(recipe, store, gpus, on_gpu, per_machine)
    card = None if gpu is None else GPUMemory(gpu)
    changes = changes_to_fit(budget, card) if card is not None and budget.bytes > card.bytes else []
    time = iteration_time(budget, seconds_per_iteration, None if measured is None else Path(measured), tflops)
    return RunNeeds(budget, card, tuple(changes), time)


def _finds_gpu(recipe: Recipe) -> bool:
    return recipe.run.device == "auto" and torch.cuda.is_available()
