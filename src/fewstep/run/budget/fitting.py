"""What to change in a recipe that does not fit its GPUs, one change after another."""

from dataclasses import dataclass
from typing import Any

from fewstep.run.budget.budget import GPUBudget, budget_of
from fewstep.run.budget.gpu_memory import GPUMemory


@dataclass(frozen=True)
class Change:
    """Keys that make a run smaller, together with the changes before, and the bytes that it then needs."""

    keys: str
    bytes: int
    fits: bool


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
