"""What a recipe needs on the GPUs it is meant for, and what to change if they do not suffice."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fewstep.backbones.fake_model import ModelSize, size_of_model
from fewstep.data.batch_slice import refuse_few_samples
from fewstep.data.mixture import (
    task_turns,
)
from fewstep.encode.estimate import StoreSize
from fewstep.run.budget.forecast import TaskForecast, forecast, forecast_like
from fewstep.run.budget.op_counter import Phase
from fewstep.run.budget.shapes import BatchShapes, batch_shapes
from fewstep.run.levels import levels_for
from fewstep.run.precision import precision_for
from fewstep.run.recipe import Recipe
from fewstep.run.teacher_terms import planned_licence
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.task import Task

ROLES = ("student", "critic")
PER_MACHINE = 8  # GPUs of a machine, by default


@dataclass(frozen=True)
class GPUBudget:
    """What a recipe needs on its GPUs.

    tasks: at the longest sequences, which decide the memory. peaks: for each task, the phase in which one GPU holds
    most. checkpoint: bytes on disk, of all GPUs together. ranks: seen from the first. notes: what was assumed. levels:
    what a `teacher` in the place of a shift stands for.
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
        total = sum(self.iterations[task.batch_shape.task] * task.flops for task in self.usual)
        return self.gpus * total / max(1, sum(self.iterations.values()))


def gpu_budget(
    recipe: Recipe, place: Path, gpus: int = 1, on_gpu: bool = True, per_machine: int | None = None
) -> GPUBudget:
    """What a recipe needs. per_machine: GPUs of each machine; by default PER_MACHINE, or all if there are fewer.

    Raises:
        RecipeError: fewer samples than GPUs and parts; GPUs that do not fill machines, with hybrid sharding.
        ModelError: of a size that is not known. CaseError, LayoutError: cases that are here and cannot be used.
    """
    size = size_of_model(recipe.model)
    recipe, levels = levels_for(precision_for(recipe, on_gpu), size)
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
    return replace(budget_of(recipe, size, shapes, ranks, on_gpu, notes), levels=tuple(levels))


def budget_of(
    recipe: Recipe, size: ModelSize, shapes: BatchShapes, ranks: Ranks, on_gpu: bool, notes: tuple[str, ...]
) -> GPUBudget:
    """The budget of a recipe whose cases, model and ranks are known."""
    refuse_few_samples(recipe.run.batch, ranks.world, recipe.run.gradient_accumulation)
    samples = -(-recipe.run.batch // ranks.world)
    tasks = tuple(forecast(recipe, batch_shape, samples, on_gpu, size, ranks=ranks) for batch_shape in shapes.by_task)
    iterations = {
        batch_shape.task: task_turns(recipe.run.iterations, recipe.mixture, batch_shape.task)
        for batch_shape in shapes.by_task
    }
    return GPUBudget(recipe, size, shapes, tasks, iterations, ranks, on_gpu, notes)
