"""What a recipe needs on the GPUs it is meant for, and what to change if they do not suffice."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewstep.backbones.fake_model import ModelSize, size_of_model
from fewstep.data.batch_slice import refuse_few_samples
from fewstep.data.mixture import (
    task_turns,
    used_tasks,
)
from fewstep.encode.estimate import StoreSize
from fewstep.run.budget.budget_json import as_json
from fewstep.run.budget.forecast import TaskForecast, forecast
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.measured import METRICS_FILE, measured_seconds, refuse_rates
from fewstep.run.budget.op_counter import Phase
from fewstep.run.budget.shapes import BatchShapes, batch_shapes
from fewstep.run.precision import precision_for
from fewstep.run.recipe import Recipe
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.task import Task

UTILISATION = 0.4  # ours, only where a peak rate is declared: the share of it that training reaches
ROLES = ("student", "critic")
PER_MACHINE = 8  # GPUs of a machine, by default


@dataclass(frozen=True)
class Change:
    """Keys that make a run smaller, together with the changes before, and the bytes that it then needs."""

    keys: str
    bytes: int
    fits: bool


@dataclass(frozen=True)
class GPUBudget:
    """What a recipe needs on its GPUs.

    peaks: for each task, the phase in which one GPU holds most. checkpoint: the bytes of a checkpoint on disk, of all
    GPUs together. ranks: those of its GPUs, seen from the first. notes: what was assumed.
    """

    recipe: Recipe
    size: ModelSize
    shapes: BatchShapes
    tasks: tuple[TaskForecast, ...]
    iterations: Mapping[Task, int]
    ranks: Ranks
    on_gpu: bool
    notes: tuple[str, ...]

    @property
    def gpus(self) -> int:
        return self.ranks.world

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
    def checkpoint(self) -> int:
        """The bytes of a checkpoint. The weights of student and critic are counted as half of their moments, since
        moments contain no rotary tables."""
        peak = self.tasks[0].peak.peak
        moments = [f"optimiser of the {role}" for role in ROLES]
        learnt = sum(self.shard_count(name) * peak[name] for name in moments)
        return round(1.5 * learnt) + self.kept_student

    @property
    def kept_student(self) -> int:
        """The bytes of the averaged student of one save."""
        average = "averaged student"
        return self.shard_count(average) * self.tasks[0].peak.peak[average]

    @property
    def whole_checkpoints(self) -> int:
        """The number of whole checkpoints that a run ends with."""
        run = self.recipe.run
        return min(self.saves, run.keep_checkpoints + (run.keep_best if run.best_by else 0))

    @property
    def saves(self) -> int:
        """The number of iterations that are saved, beside those that an examination finds better."""
        return -(-self.recipe.run.iterations // self.recipe.run.save_every_iterations)

    @property
    def disk(self) -> int:
        """The bytes of a finished run's checkpoints, and of the averaged students that outlive theirs."""
        alone = self.saves - self.whole_checkpoints if self.recipe.run.keep_students else 0
        return self.whole_checkpoints * self.checkpoint + alone * self.kept_student

    @property
    def fixed_bytes(self) -> int:
        """Bytes that do not depend on the number of samples: weights, moments, the moving average."""
        peak = self.tasks[0].peak.peak
        return sum(n for name, n in peak.items() if name.startswith(("weights", "optimiser", "averaged")))

    @property
    def store(self) -> StoreSize | None:
        return self.shapes.store

    @property
    def flops(self) -> float:
        """Floating-point operations of the mean iteration, on all GPUs together."""
        total = sum(self.iterations[task.batch_shape.task] * task.flops for task in self.tasks)
        return self.gpus * total / max(1, sum(self.iterations.values()))


def gpu_budget(
    recipe: Recipe, place: Path, gpus: int = 1, on_gpu: bool = True, per_machine: int | None = None
) -> GPUBudget:
    """What a recipe needs. per_machine: GPUs of each machine; by default PER_MACHINE, or all if there are fewer.

    Raises:
        RecipeError: fewer samples than GPUs and parts; GPUs that do not fill machines, with hybrid sharding.
        ModelError: of a size that is not known. CaseError, LayoutError: cases that are here and cannot be used.
    """
    recipe, size = precision_for(recipe, on_gpu), size_of_model(recipe.model)
    guidance, _ = size.family.default_sampling(size.index)
    shapes = batch_shapes(recipe, place, guidance)
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
    return _budget(recipe, size, shapes, ranks, on_gpu, notes)


def _budget(
    recipe: Recipe, size: ModelSize, shapes: BatchShapes, ranks: Ranks, on_gpu: bool, notes: tuple[str, ...]
) -> GPUBudget:
    refuse_few_samples(recipe.run.batch, ranks.world, recipe.run.gradient_accumulation)
    samples = -(-recipe.run.batch // ranks.world)
    tasks = tuple(forecast(recipe, batch_shape, samples, on_gpu, size, ranks=ranks) for batch_shape in shapes.by_task)
    iterations = {
        batch_shape.task: task_turns(recipe.run.iterations, recipe.mixture, batch_shape.task)
        for batch_shape in shapes.by_task
    }
    return GPUBudget(recipe, size, shapes, tasks, iterations, ranks, on_gpu, notes)


def changes_to_fit(budget: GPUBudget, card: GPUMemory) -> list[Change]:
    """Changes that make the run fit, each on top of those before, until it fits. The effect of each is forecast, not
    guessed."""
    made: list[Change] = []
    recipe, gpus, keys = budget.recipe, budget.gpus, dict[str, Any]()
    for step in _steps(budget, card):
        if budget.bytes <= card.bytes:
            break
        keys |= step
        tried = recipe.changed(keys)
        budget = _budget(tried, budget.size, budget.shapes, budget.ranks, budget.on_gpu, budget.notes)
        words = ", ".join(f"{key}: {value}" for key, value in step.items())
        parts = step.get("run.gradient_accumulation", 1)
        if parts > 1:  # as many GPUs more leave as few samples at once
            words += f" (or --gpus {-(-gpus * parts // recipe.run.gradient_accumulation)})"
        made.append(Change(words, budget.bytes, budget.bytes <= card.bytes))
    return made


def _steps(budget: GPUBudget, card: GPUMemory) -> list[dict[str, Any]]:
    """The changes to try, those that cost least quality and time first."""
    recipe, least = budget.recipe, budget.recipe.run.batch // budget.gpus
    how, parts = recipe.run.gradient_checkpointing, recipe.run.gradient_accumulation
    sharded: list[dict[str, Any]] = (
        [{"run.sharding": "full"}] if budget.gpus > 1 and recipe.run.sharding == "off" else []
    )
    # On several GPUs a sharded teacher takes less than an offloaded one, which is whole on each GPU while it runs.
    offloaded = [
        {f"teachers.named.{name}.place": "offloaded"}
        for name, teacher in recipe.teachers.named.items()
        if teacher.model is not None and teacher.place == "resident" and budget.gpus == 1
    ]
    recomputed = [
        {"run.gradient_checkpointing": one}
        for one in {"off": ("selective", "full"), "selective": ("full",)}.get(how, ())
        if not (recipe.run.compile and one == "selective")
    ]
    accumulated = list[dict[str, Any]]()
    while parts < least:
        parts = min(2 * parts, least)
        accumulated.append({"run.gradient_accumulation": parts})
    modes = [{f"{role}.mode": "adapter"} for role in ("critic", "student") if getattr(recipe, role).mode == "full"]
    # Fewer samples at once, and recomputation, do not help if weights and moments alone are too much.
    if budget.fixed_bytes > card.bytes:
        first, later = [*sharded, *offloaded, *recomputed], [*modes, *accumulated]
    else:
        first, later = [*offloaded, *recomputed, *sharded], [*accumulated, *modes]
    # Without parts, gradients are allocated only while the activations are freed.
    single: list[dict[str, Any]] = (
        [{"run.batch": budget.gpus, "run.gradient_accumulation": 1}] if recipe.run.batch > budget.gpus else []
    )
    # int8 is for a replicated base that only adapters use, so it comes after the modes.
    whole = budget.gpus == 1 and recipe.run.sharding == "off" and recipe.run.base_weights != "int8"
    rounded: list[dict[str, Any]] = [{"run.base_weights": "int8"}] if whole else []
    # forward_once saves a forward and keeps its activations longer. It excludes parts and sharded weights.
    plain: list[dict[str, Any]] = [{"student.forward_once": False}] if recipe.student.forward_once else []
    return [*plain, *first, *later, *rounded, *single]


# ---- time


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
        by_task = {one.batch_shape.task: one.flops / speed for one in budget.tasks}
        return IterationTime(
            by_task,
            f"a peak of {tflops:g} TFLOP/s a GPU, as declared, of which {UTILISATION:.0%} are reached (assumed)",
        )
    return None


# ---- all of it, as a value


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
