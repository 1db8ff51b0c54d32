"""What a recipe needs on the GPUs it is meant for, as values and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fewstep.backbones.fake_model import ModelSize, size_of_model
from fewstep.data.batch_slice import refuse_few_samples
from fewstep.data.mixture import (
    task_turns,
)
from fewstep.encode.estimate import StoreSize
from fewstep.run.budget.auto_memory import settle_auto
from fewstep.run.budget.disk import RunDisk
from fewstep.run.budget.examinations import planned_examinations
from fewstep.run.budget.forecast import forecast, forecast_like
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.host_blocks import HostBlocks, Transfers, host_blocks
from fewstep.run.budget.memory_settings import MemorySetting, Trials
from fewstep.run.budget.op_counter import Phase
from fewstep.run.budget.question import PCIE_GBS
from fewstep.run.budget.shapes import BatchShapes, batch_shapes, store_of
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.levels import levels_for
from fewstep.run.precision import precision_for
from fewstep.run.recipe import Recipe, with_run_keys
from fewstep.run.teacher_terms import planned_licence
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.task import Task
from fewstep.train.plan import AUTO_OF_MEMORY

ROLES = ("student", "critic")
PER_MACHINE = 8  # GPUs of a machine, by default


@dataclass(frozen=True)
class GPUBudget:
    """What a recipe needs on its GPUs.

    tasks: at the longest sequences, which decide the memory. peaks: for each task, the phase in which one GPU holds
    most. ranks: those of its GPUs, seen from the first. notes: what was assumed. levels: what a `teacher` in the place
    of a shift stands for. chosen: the keys of `run` whose `auto` was chosen for a GPU, and settings: what they were
    chosen from. store: about the size of the conditioning store; None if no case was read.
    """

    recipe: Recipe
    size: ModelSize
    shapes: BatchShapes
    tasks: tuple[TaskForecast, ...]
    iterations: Mapping[Task, int]
    ranks: Ranks
    on_gpu: bool
    notes: tuple[str, ...]
    levels: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    settings: tuple[MemorySetting, ...] = ()
    store: StoreSize | None = None

    @property
    def gpus(self) -> int:
        return self.ranks.world

    @cached_property
    def usual(self) -> tuple[TaskForecast, ...]:
        """As `tasks`, at sequences of about mean length, which decide the work."""
        pairs = zip(self.shapes.usual, self.tasks, strict=True)
        return tuple(forecast_like(one, self.recipe, shape, self.on_gpu, self.size, self.ranks) for shape, one in pairs)

    @property
    def peaks(self) -> dict[Task, Phase]:
        return {task.batch_shape.task: task.peak for task in self.tasks}

    @property
    def bytes(self) -> int:
        return max(peak.bytes for peak in self.peaks.values())

    def shard_count(self, purpose: str) -> int:
        """The number of GPUs over which what has this purpose is sharded; 1 if each GPU holds all of it."""
        sharding = self.recipe.run.sharding
        over = {"off": 1, "full": self.gpus, "hybrid": self.ranks.per_machine}[sharding]
        what, _, owner = purpose.rpartition(" ")
        if what == "weights of teacher":
            teacher = self.recipe.teachers.named[owner]
            return over if teacher.model is not None and teacher.place == "resident" else 1
        if owner in ROLES:
            return over if getattr(self.recipe, owner).mode == "full" else 1
        return over if owner == "base" else 1

    @property
    def disk(self) -> RunDisk:
        """What a finished run keeps. The weights of student and critic are counted as half of their moments, since
        moments contain no rotary tables."""
        peak = self.tasks[0].peak.peak
        moments = [f"optimiser of the {role}" for role in ROLES]
        learnt = sum(self.shard_count(name) * peak[name] for name in moments)
        student = self.shard_count("averaged student") * peak["averaged student"]
        return RunDisk(self.recipe.run, round(1.5 * learnt) + student, student)

    @property
    def fixed_bytes(self) -> int:
        """Bytes that do not depend on the number of samples: weights, moments, the moving average."""
        peak = self.tasks[0].peak.peak
        return sum(n for name, n in peak.items() if name.startswith(("weights", "optimiser", "averaged")))

    @cached_property
    def host(self) -> HostBlocks:
        """What waits in host memory, for each GPU."""
        return host_blocks(self.recipe, self.size.transformer)

    @property
    def host_bytes(self) -> int:
        """Of page-locked host memory, on a machine with as many of the GPUs as it holds."""
        return self.host.bytes * self.ranks.per_machine

    @property
    def flops(self) -> float:
        """Floating-point operations of the mean iteration, on all GPUs together."""
        total = sum(self.iterations[task.batch_shape.task] * task.flops for task in self.usual)
        return self.gpus * total / max(1, sum(self.iterations.values()))


def gpu_budget(
    recipe: Recipe,
    place: Path,
    gpus: int = 1,
    on_gpu: bool = True,
    per_machine: int | None = None,
    card: GPUMemory | None = None,
    every: bool = True,
    shapes: BatchShapes | None = None,
) -> GPUBudget:
    """What a recipe needs.

    Args:
        per_machine: GPUs of each machine; by default PER_MACHINE, or all if there are fewer.
        card: for which the `auto` of `run.gradient_checkpointing` and `run.blocks_to_swap` is chosen. Without one they
            are taken for `full` and 0.
        every: of `auto`, also the settings that cost more than the one that is taken.
        shapes: of the recipe's batches, where its cases were read already.

    Raises:
        RecipeError: fewer samples than GPUs and parts; GPUs that do not fill machines, with hybrid sharding.
        ModelError: of a size that is not known. CaseError, LayoutError: cases that are here and cannot be used.
    """
    size = size_of_model(recipe.model)
    recipe, levels = levels_for(precision_for(recipe, on_gpu), size)
    if "blocks_to_swap" not in recipe.run.auto_of_memory:
        host_blocks(recipe, size.transformer)  # refuses more blocks than there are, before a rehearsal takes its minute
    shapes = shapes or batch_shapes(recipe, place)
    store = store_of(recipe, shapes, size.family.default_sampling(size.index)[0])
    ranks = Ranks(0, gpus, min(gpus, per_machine or PER_MACHINE))
    notes = shapes.notes
    if recipe.run.sharding == "hybrid":
        if gpus % ranks.per_machine:
            raise RecipeError(
                f"run.sharding: hybrid needs as many GPUs on each machine, and {gpus} are no machines of "
                f"{ranks.per_machine}. Say how many a machine has with --per-machine, or use full"
            )
        if per_machine is None and gpus > 1:
            notes += (f"{ranks.per_machine} GPUs a machine, over which weights are split; --per-machine says another",)
    settings: tuple[MemorySetting, ...] = ()
    refuse_few_samples(recipe.run.batch, ranks.world, recipe.run.most_parts)
    chosen = recipe.run.auto_of_memory
    if chosen:
        why = _unsettled(recipe, card, ranks)
        if card is None or why is not None:
            notes += tuple(f"run.{key}: auto is counted as {AUTO_OF_MEMORY[key]}, since {why}" for key in chosen)
            recipe, chosen = with_run_keys(recipe, {key: AUTO_OF_MEMORY[key] for key in chosen}), ()
        else:
            trials = Trials(size, shapes.by_task, ranks, card, forecast)
            recipe, settings = settle_auto(recipe, trials, every)
    made = budget_of(recipe, size, shapes, ranks, on_gpu, notes)
    return replace(made, levels=tuple(levels), chosen=chosen, settings=settings, store=store)


def _unsettled(recipe: Recipe, card: GPUMemory | None, ranks: Ranks) -> str | None:
    """Why `auto` is not chosen for a GPU, as in `run/memory_choice.py`; None if it is."""
    if card is None:
        return "no GPU is named (--gpu)"
    if recipe.run.sharding != "off" and ranks.world > 1:
        return "the choice is for weights that lie whole on each GPU"
    return None


def budget_of(
    recipe: Recipe, size: ModelSize, shapes: BatchShapes, ranks: Ranks, on_gpu: bool, notes: tuple[str, ...]
) -> GPUBudget:
    """The budget of a recipe whose cases, model and ranks are known."""
    refuse_few_samples(recipe.run.batch, ranks.world, recipe.run.most_parts)
    samples = -(-recipe.run.batch // ranks.world)
    tasks = tuple(forecast(recipe, batch_shape, samples, on_gpu, size, ranks=ranks) for batch_shape in shapes.by_task)
    iterations = {
        batch_shape.task: task_turns(recipe.run.iterations, recipe.mixture, batch_shape.task)
        for batch_shape in shapes.by_task
    }
    return GPUBudget(recipe, size, shapes, tasks, iterations, ranks, on_gpu, notes)


@dataclass(frozen=True)
class Change:
    """Keys that make a run smaller, together with the changes before, and the bytes that it then needs."""

    keys: str
    bytes: int
    fits: bool


@dataclass(frozen=True)
class IterationTime:
    """The time of an iteration.

    Args:
        seconds: by task, waits for transfers included.
        basis: where they come from, for messages.
        transfers: from host memory, by task; where a peak rate is declared and blocks are swapped.
        pcie: the rate of transfers in GB/s.
    """

    seconds: Mapping[Task, float]
    basis: str
    transfers: Mapping[Task, Transfers] = field(default_factory=dict)
    pcie: float = PCIE_GBS

    def hours(self, budget: GPUBudget) -> float:
        """Hours of the whole run. A warm-up iteration is counted as a whole one."""
        distil = sum(self.seconds[task] * n for task, n in budget.iterations.items())
        warm_up = budget.recipe.critic.warmup_iterations * max(self.seconds.values())
        return (distil + warm_up) / 3600


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
    shapes = budget.shapes.by_task
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
            "checkpoint_bytes": budget.disk.checkpoint,
            "student_bytes": budget.disk.student,
            "disk_bytes": budget.disk.bytes,
            "store_bytes": None if budget.store is None else budget.store.bytes,
            "flops_mean": round(budget.flops),
            "examinations": None if exam is None else exam.as_dict(),
            "host_bytes": budget.host_bytes,
            "transfers": {} if rate is None else {task: vars(sent) for task, sent in rate.transfers.items()},
            "hours": None if rate is None else round(rate.hours(budget), 3),
            "sigmas": list(budget.recipe.student.grid),
            "levels": list(budget.levels),
            "gradient_checkpointing": {one.task: budget.recipe.run.recomputation(one.task) for one in shapes},
            "blocks_to_swap": budget.recipe.run.swapped_blocks,
            "memory_settings": [vars(setting) for setting in budget.settings],
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
    def host_bytes(self) -> int:
        """Of page-locked memory of the host: blocks and teachers that wait there."""
        return self.budget.host_bytes

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
        return self.budget.disk.checkpoint

    @property
    def disk_bytes(self) -> int:
        """Of what a finished run keeps: whole checkpoints, and the averaged student of every save."""
        return self.budget.disk.bytes

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
