"""`fewstep.plan`: what a run needs, what to change if its GPUs do not suffice, and how long it takes."""

from pathlib import Path
from typing import Any

import torch

from fewstep.data.mixture import used_tasks
from fewstep.run.budget.budget import Change, GPUBudget, IterationTime, RunNeeds, budget_of, gpu_budget
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.measured import METRICS_FILE, measured_seconds, refuse_rates
from fewstep.run.budget.memory_settings import CHEAPEST_FIRST
from fewstep.run.recipe import Recipe

UTILISATION = 0.4  # ours, only where a peak rate is declared: the share of it that training reaches


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
    card = None if gpu is None else GPUMemory(gpu)
    budget = gpu_budget(recipe, store, gpus, on_gpu, per_machine, card)
    changes = changes_to_fit(budget, card) if card is not None and budget.bytes > card.bytes else []
    time = iteration_time(budget, seconds_per_iteration, None if measured is None else Path(measured), tflops)
    return RunNeeds(budget, card, tuple(changes), time)


def _finds_gpu(recipe: Recipe) -> bool:
    return recipe.run.device == "auto" and torch.cuda.is_available()


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
        budget = budget_of(tried, budget.size, budget.shapes, budget.ranks, budget.on_gpu, budget.notes)
        words = ", ".join(f"{key}: {value}" for key, value in step.items())
        parts = step.get("run.gradient_accumulation", 1)
        if parts > 1:  # as many GPUs more leave as few samples at once
            words += f" (or --gpus {-(-gpus * parts // recipe.run.most_parts)})"
        made.append(Change(words, budget.bytes, budget.bytes <= card.bytes))
    return made


def _steps(budget: GPUBudget, card: GPUMemory) -> list[dict[str, Any]]:
    """The changes to try, those that cost least quality and time first."""
    recipe, least = budget.recipe, budget.recipe.run.batch // budget.gpus
    parts = recipe.run.most_parts
    how = max((recipe.run.recomputation(task) for task in budget.iterations), key=CHEAPEST_FIRST.index)
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
