"""`fewstep plan --json`: a budget for other programs.

It takes a GPUBudget, a GPUMemory, Changes and an IterationTime, and reads their attributes alone: `budget.py` imports
this module.
"""

import json
from typing import Any

from fewstep.run.budget.examinations import planned_examinations


def as_json(budget: Any, card: Any, made: list[Any], rate: Any) -> str:
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
            "flops_per_iteration": one.flops,
            "forwards": dict(one.calls),
            "iterations": budget.iterations[one.batch_shape.task],
        }
        for one in budget.tasks
    }
    exam = planned_examinations(budget.recipe, budget.size)
    return json.dumps(
        {
            "recipe": budget.recipe.name,
            "model": budget.recipe.model,
            "basis": budget.size.basis,
            "parameters": budget.size.parameters,
            "gpus": budget.gpus,
            "gpus_per_machine": budget.ranks.per_machine,
            "sharding": budget.recipe.run.sharding,
            "tasks": tasks,
            "checkpoint_bytes": budget.checkpoint,
            "student_bytes": budget.kept_student,
            "disk_bytes": budget.disk,
            "store_bytes": None if budget.store is None else budget.store.bytes,
            "flops_mean": round(budget.flops),
            "examinations": None
            if (exam := planned_examinations(budget.recipe, budget.size)) is None
            else exam.as_dict(),
            "hours": None if rate is None else round(rate.hours(budget), 3),
            "notes": list(budget.notes),
            "card_bytes": None if card is None else card.bytes,
            "fits": None if card is None else budget.bytes <= card.bytes,
            "changes": [vars(change) for change in made],
        },
        indent=1,
    )
