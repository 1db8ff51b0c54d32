"""`fewstep.plan`: what a run needs, what to change if its GPUs do not suffice, and how long it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fewstep.run.budget.budget import Change, GPUBudget, IterationTime, RunNeeds, budget_of, gpu_budget
from fewstep.run.budget.gpu_memory import GPUMemory
from fewstep.run.budget.host_blocks import saved_by_number
from fewstep.run.budget.measured import METRICS_FILE, measured_seconds, refuse_rates
from fewstep.run.budget.memory_settings import CHEAPEST_FIRST
from fewstep.run.budget.question import PCIE_GBS, PlanOptions, PlanQuestion, plan_question
from fewstep.run.recipe import Recipe

Step = dict[str, Any] | Callable[[GPUBudget, GPUMemory], dict[str, Any]]

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
    pcie: float = PCIE_GBS,
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
        pcie: what a GPU is sent from host memory, in GB/s, for blocks that wait there.

    Raises:
        RecipeError: fewer samples than GPUs, two rates, or more swapped blocks than the model has. ModelError: a model
            of unknown size. CaseError: cases that are here and cannot be used. RunError: `measured` is no run.
    """
    run = None if measured is None else Path(measured)
    options = PlanOptions(gpu, gpus, per_machine, seconds_per_iteration, run, tflops, pcie)
    return needs_of(plan_question(recipe, None if out is None else Path(out), options))


def needs_of(question: PlanQuestion) -> RunNeeds:
    """The answer to a question, counted.

    Raises:
        RecipeError, ModelError, RunError: as `plan`.
    """
    recipe, asked = question.recipe, question.options
    on_gpu = question.names_gpu or _finds_gpu(recipe)
    card = None if asked.gpu is None else GPUMemory(asked.gpu)
    budget = gpu_budget(recipe, question.place, asked.gpus, on_gpu, asked.per_machine, card, shapes=question.shapes)
    changes = changes_to_fit(budget, card) if card is not None and budget.bytes > card.bytes else []
    time = iteration_time(budget, asked.seconds_per_iteration, asked.measured, asked.tflops, asked.pcie)
    return RunNeeds(budget, card, tuple(changes), time)


def _finds_gpu(recipe: Recipe) -> bool:
    return recipe.run.device == "auto" and torch.cuda.is_available()


def changes_to_fit(budget: GPUBudget, card: GPUMemory) -> list[Change]:
    """Changes that make the run fit, each on top of those before, until it fits. The effect of each is forecast, not
    guessed."""
    made: list[Change] = []
    recipe, gpus, keys = budget.recipe, budget.gpus, dict[str, Any]()
    for told in _steps(budget, card):
        if budget.bytes <= card.bytes:
            break
        step = told(budget, card) if callable(told) else told
        if not step:
            continue
        keys |= step
        tried = recipe.changed(keys)
        budget = budget_of(tried, budget.size, budget.shapes, budget.ranks, budget.on_gpu, budget.notes)
        words = ", ".join(f"{key}: {value}" for key, value in step.items())
        parts = step.get("run.gradient_accumulation", 1)
        if parts > 1:  # as many GPUs more leave as few samples at once
            words += f" (or --gpus {-(-gpus * parts // recipe.run.most_parts)})"
        made.append(Change(words, budget.bytes, budget.bytes <= card.bytes))
    return made


def _steps(budget: GPUBudget, card: GPUMemory) -> list[Step]:
    """The changes to try, those that cost least quality and time first. One that depends on how much is left to save is
    a function of the budget so far."""
    recipe, least = budget.recipe, budget.recipe.run.batch // budget.gpus
    parts = recipe.run.most_parts
    how = max((recipe.run.recomputation(task) for task in budget.iterations), key=CHEAPEST_FIRST.index)
    sharded: list[dict[str, Any]] = [{"run.sharding": "full"}] if budget.gpus > 1 and _may_be_sharded(recipe) else []
    # On several GPUs sharding it is the first choice: then only the running block is gathered.
    swapped_teachers = [
        {f"teachers.named.{name}.place": "swapped"}
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
        first, later = [*sharded, *swapped_teachers, *recomputed], [*modes, *accumulated]
    else:
        first, later = [*swapped_teachers, *recomputed, *sharded], [*accumulated, *modes]
    # Without parts, gradients are allocated only while the activations are freed.
    single: list[dict[str, Any]] = (
        [{"run.batch": budget.gpus, "run.gradient_accumulation": 1}] if recipe.run.batch > budget.gpus else []
    )
    # int8 is for a replicated base that only adapters use, so it comes after the modes.
    whole = budget.gpus == 1 and recipe.run.sharding == "off" and recipe.run.base_weights == "precision"
    rounded: list[dict[str, Any]] = [{"run.base_weights": "int8"}] if whole else []
    # forward_once saves a forward and keeps its activations longer. It excludes parts and sharded weights.
    plain: list[dict[str, Any]] = [{"student.forward_once": False}] if recipe.student.forward_once else []
    return [*plain, *first, *later, _swapped, *rounded, *single]


def _may_be_sharded(recipe: Recipe) -> bool:
    """Whether weights that lie whole on each GPU could be split: not where blocks wait in host memory, nor rounded."""
    waits = recipe.run.swapped_blocks or any(one.place == "swapped" for one in recipe.teachers.named.values())
    return recipe.run.sharding == "off" and recipe.run.base_weights == "precision" and not waits


def _swapped(budget: GPUBudget, card: GPUMemory) -> dict[str, Any]:
    """Blocks of the base in host memory: as few as suffice, or all. They change no number, so they come before int8.
    They take time where their transfer outlasts the computation, so they come after what takes none."""
    recipe = budget.recipe
    learns = "full" in (recipe.student.mode, recipe.critic.mode)
    if learns or recipe.run.sharding != "off" or recipe.run.compile:
        return {}
    now, saved = recipe.run.swapped_blocks, saved_by_number(recipe, budget.size.transformer)
    enough = [number for number in saved if number > now and budget.bytes + saved[now] - saved[number] <= card.bytes]
    number = min(enough, default=max(saved))
    return {} if number == now else {"run.blocks_to_swap": number}


def iteration_time(
    budget: GPUBudget, seconds: float | None, measured: Path | None, tflops: float | None, pcie: float = PCIE_GBS
) -> IterationTime | None:
    """The time of an iteration, from what was declared or measured; None if nothing was. Only of a declared peak the
    transfers from host memory are counted, at `pcie` GB/s, where they outlast the computation beside them.

    Raises:
        RecipeError, RunError: as `refuse_rates`.
    """
    tasks = tuple(budget.iterations)
    refuse_rates(seconds, measured, tflops, pcie, tasks)
    if seconds is not None:
        return IterationTime(dict.fromkeys(tasks, seconds), f"{seconds:g} s an iteration, as declared")
    if measured is not None:
        return IterationTime(measured_seconds(measured, tasks), f"medians of {measured / METRICS_FILE}")
    if tflops is not None:
        speed = tflops * 1e12 * UTILISATION
        sent = {one.batch_shape.task: budget.host.transfers(one, speed, pcie * 1e9) for one in budget.usual}
        by_task = {task: one.flops / speed + sent[task].waited for task, one in zip(tasks, budget.usual, strict=True)}
        basis = f"a peak of {tflops:g} TFLOP/s a GPU, as declared, of which {UTILISATION:.0%} are reached (assumed)"
        return IterationTime(by_task, basis, sent if budget.host.swapped else {}, pcie)
    return None
