"""The weights lambda_{k,m}(c) of a batch, as the tensor with which velocities are mixed.

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
    """lam_MB, float32 on the CPU; its columns sum to 1. Each sample is given with its task and category.

    trust: the share of its planned weights that a teacher has now; 1 for a teacher that is not named.
    """
    strength = plan.strength(iteration, iterations)
    rows = {c: plan.row(k, strength, *c, trust) for c in set(zip(tasks, categories, strict=True))}
    return torch.tensor([rows[c] for c in zip(tasks, categories, strict=True)]).T
