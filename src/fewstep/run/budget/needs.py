"""`fewstep.plan`: all that a run needs, as a value and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fewstep.data.mixture import used_tasks
from fewstep.run.budget.budget import GPUBudget, gpu_budget
from fewstep.run.budget.examinations import planned_examinations
from fewstep.run.budget.fitting import Change, changes_to_fit
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.hours import IterationTime, iteration_time
from fewstep.run.budget.measured import refuse_rates
from fewstep.run.recipe import Recipe
from fewstep.run.teacher_terms import planned_licence
from fewstep.runtime.task import Task


def as_json(budget: GPUBudget, card: GPUMemory | None, made: list[Change], rate: IterationTime | None) -> str:
    """The budget as JSON for other programs. Bytes and operations are integers."""
    tasks = {
        one.batch_shape.task: {
            "tokens": one.batch_shape.tokens,
            "samples_per_gpu": one.samples,
            "samples_at_once": one.at_once,
            "peak_bytes": budget.peaks[one.batch_shape.task].bytes,
            "peak_phase": budget.peaks[one.batch_shape.task].name,
            "parts": dict(budget.peaks[one.batch_shape.task].peak),
            "split_over": {name: budget.shard_count(name) for name in budget.peaks[one.batch_shape.task].peak},
            "flops_per_iteration": usual.flops,
            "tokens_of_mean_length": usual.batch_shape.tokens,
            "forwards": dict(one.calls),
            "iterations": budget.iterations[one.batch_shape.task],
        }
        for one, usual in zip(budget.tasks, budget.usual, strict=True)
    }
    exam = planned_examinations(budget.recipe, budget.size)
    return json.dumps(
        {
            "recipe": budget.recipe.name,
            "model": budget.recipe.model,
            "basis": budget.size.basis,
            "parameters": budget.size.parameters,
            "licence": planned_licence(budget.recipe.model, budget.size).words,
            "gpus": budget.gpus,
            "gpus_per_machine": budget.ranks.per_machine,
            "sharding": budget.recipe.run.sharding,
            "tasks": tasks,
            "checkpoint_bytes": budget.checkpoint,
            "student_bytes": budget.kept_student,
            "disk_bytes": budget.disk,
            "store_bytes": None if budget.store is None else budget.store.bytes,
            "flops_mean": round(budget.flops),
            "examinations": None if exam is None else exam.as_dict(),
            "hours": None if rate is None else round(rate.hours(budget), 3),
            "sigmas": list(budget.recipe.student.grid),
            "levels": list(budget.levels),
            "layouts": list(budget.shapes.told),
            "notes": list(budget.notes),
            "card_bytes": None if card is None else card.bytes,
            "fits": None if card is None else budget.bytes <= card.bytes,
            "changes": [vars(change) for change in made],
        },
        indent=1,
    )


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
