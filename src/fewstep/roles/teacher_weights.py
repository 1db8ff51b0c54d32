"""The teacher plan lambda_{k,m}(c) of a batch, as the tensor that velocities are mixed by.

Shapes: B batch, M teachers (0 is the base).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fewstep.roles.teacher_plan import FULL_TRUST, TeacherPlan
from fewstep.runtime.task import Task


def teacher_weights(
    plan: TeacherPlan,
    k: int,
    iteration: int,
    iterations: int,
    tasks: Sequence[Task],
    categories: Sequence[str],
    trust: Mapping[str, float] = FULL_TRUST,
) -> Tensor:
    """lam_MB, float32 on the CPU: columns sum to 1. Every sample has its own task and category."""
    strength = plan.strength(iteration, iterations)
    rows = {c: plan.row(k, strength, *c, trust) for c in set(zip(tasks, categories, strict=True))}
    return torch.tensor([rows[c] for c in zip(tasks, categories, strict=True)]).T
