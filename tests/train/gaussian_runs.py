"""Whole iterations on Gaussian worlds: roles, a DMD step, and the law of what the student samples."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewstep.backbones.conditioning import stack
from fewstep.backbones.testing.toy import (
    GaussianNetwork,
    GaussianWorld,
    ToyBackbone,
)
from fewstep.encode.batch import Batch
from fewstep.flow.guidance import Guidance
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import Rollout, roll_out
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.network import Network
from fewstep.roles.plan import (
    AdaptivePlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.roles import Roles
from fewstep.roles.teacher_plan import TeacherPlan, TeacherSchedule
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.roles.weight_control import TeacherWeightControl
from fewstep.train.build import build_dmd_step
from fewstep.train.dmd_step import DMDStep
from fewstep.train.monitor import (
    pulls_of,
    to_host,
)
from fewstep.train.settings import DMDSettings

SIGMAS = (1.0, 0.9, 0.75, 0.5)
BASE = GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]]), torch.tensor([[0.3, 0.4, 0.5]]))
SAMPLES, SIDE = 16, 64  # 16 samples of 16 tokens, which all obey one law
RNG = NamedRNG(0)
ITERATIONS = 50


def batch_of(backbone: ToyBackbone, i: int) -> Batch:
    samples = tuple(range(i * SAMPLES, (i + 1) * SAMPLES))
    cond = stack(backbone.encode(["a word"], None, (SIDE, SIDE)) * SAMPLES)
    return Batch(i, "t2i", cond, {}, samples, ("landscape",) * SAMPLES, ("a",) * SAMPLES)


def step_over(roles: Roles, student: StudentPlan, critic: CriticPlan, **objective: Any) -> DMDStep:
    return build_dmd_step(roles, DMDSettings(student, critic, ObjectivePlan(**objective)), RNG)


def plans(learning_rate: float = 0.04) -> tuple[StudentPlan, CriticPlan]:
    student = StudentPlan(mode="full", sigmas=SIGMAS, learning_rate=learning_rate, ema=0.9, ema_warmup=2)
    return student, CriticPlan(mode="full", learning_rate=3 * learning_rate, updates=2)


def student_rollout(m: DMDStep, backbone: ToyBackbone) -> Rollout:
    """The averaged student's rollout from 250 samples of noise."""
    cond = stack(backbone.encode(["a word"], None, (SIDE, SIDE)) * 250)
    with torch.no_grad(), m.optimizers.ema.applied():
        eps = RNG.normal((250, 16, 3), "look")
        return roll_out(m.roles.student.bind(cond), eps, m.settings.student.grid)


def law(m: DMDStep, backbone: ToyBackbone) -> tuple[Tensor, Tensor]:
    """Mean and variance of the averaged student's pictures, by channel."""
    x0 = student_rollout(m, backbone).states[-1].flatten(0, 1)
    return x0.mean(0), x0.var(0)


def moved(backbone: ToyBackbone) -> Tensor:
    """How far the prompt moves every world's mean."""
    return backbone.world_of(batch_of(backbone, 0).cond.rows([0])).mean_ND[0, 0] - BASE.mean_ND[0]


def with_teacher(
    backbone: ToyBackbone,
    other: GaussianWorld,
    weights_K: tuple[float, ...],
    student: StudentPlan,
    critic: CriticPlan,
    *,
    iterations: int,
    adaptive: AdaptivePlan | None = None,
    guidance: Mapping[str, Guidance] | None = None,
) -> Roles:
    """Base, student and critic of `backbone`, and a specialised teacher that is exact for the world `other`."""
    roles = build_roles(backbone, RolesSpec(student, critic, TeachersSpec(), iterations), RNG)
    network = Network("other", backbone, GaussianNetwork(other, SIGMAS).requires_grad_(False))
    by_name = {**roles.teachers.teachers, "other": Teacher(network, guidance or {})}  # type: ignore[dict-item]
    plan = TeacherPlan((TeacherSchedule("other", weights_K),))
    return Roles(
        roles.student, roles.critic, Teachers(plan, by_name, iterations, TeacherWeightControl(["other"], adaptive))
    )


def trained(m: DMDStep, backbone: ToyBackbone, iterations: int) -> list[dict[str, float | None]]:
    """So many iterations, each followed by what the trainer's loop does about trust; their figures."""
    history = []
    for i in range(iterations):
        figures = to_host(m.iterate(i, m.student.exit_step("t2i", i), batch_of(backbone, i)))
        history.append(figures)
        for name, pull in pulls_of(figures).items():
            m.roles.teachers.trust.adapt(name, pull)
    return history
