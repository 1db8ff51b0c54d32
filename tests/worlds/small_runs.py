"""Whole iterations on Gaussian worlds: a cast, a method, and the law of what the student draws."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewstep.backbones.toy import GaussianNetwork, GaussianWorld, ToyBackbone
from fewstep.conditioning import stack
from fewstep.encode.loader import Batch
from fewstep.flow.guidance import Guidance
from fewstep.flow.noise import Draw
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import Rollout, roll_out
from fewstep.roles.assemble import Cast, assemble
from fewstep.roles.network import Network
from fewstep.roles.plan import AdaptivePlan, CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.teacher_plan import Column, TeacherPlan
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.roles.trust import Trust
from fewstep.train.average import Average
from fewstep.train.distill import Method
from fewstep.train.learner import Learner
from fewstep.train.terms import terms_of
from fewstep.train.watch import Clock, pulls_of, read

SIGMAS = (1.0, 0.9, 0.75, 0.5)
BASE = GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]]), torch.tensor([[0.3, 0.4, 0.5]]))
SAMPLES, SIDE = 16, 64  # 16 samples of 16 tokens, which all obey one law
DRAW = Draw(0)
ITERATIONS = 50


def batch_of(backbone: ToyBackbone, i: int) -> Batch:
    samples = tuple(range(i * SAMPLES, (i + 1) * SAMPLES))
    cond = stack(backbone.encode(["a word"], None, (SIDE, SIDE)) * SAMPLES)
    return Batch(i, "t2i", cond, {}, samples, ("landscape",) * SAMPLES, ("a",) * SAMPLES)


def method(cast: Cast, student: StudentPlan, critic: CriticPlan, **objective: Any) -> Method:
    plan = ObjectivePlan(**objective)
    learners = Learner(cast.student, student), Learner(cast.critic, critic)
    average, terms = Average(cast.student, student.ema), terms_of(plan, cast, student.grid, DRAW)
    return Method(cast, student, critic, plan, DRAW, *learners, average, Clock(torch.device("cpu")), terms=terms)


def plans(learning_rate: float = 0.04) -> tuple[StudentPlan, CriticPlan]:
    student = StudentPlan(mode="full", sigmas=SIGMAS, learning_rate=learning_rate, ema=0.9)
    return student, CriticPlan(mode="full", learning_rate=3 * learning_rate, updates=2)


def walks(m: Method, backbone: ToyBackbone) -> Rollout:
    """The averaged student's walks from 250 draws of noise."""
    cond = stack(backbone.encode(["a word"], None, (SIDE, SIDE)) * 250)
    with torch.no_grad(), m.average.applied():
        eps = DRAW.normal((250, 16, 3), "look")
        return roll_out(m.cast.student.bind(cond), eps, m.student.grid)


def law(m: Method, backbone: ToyBackbone) -> tuple[Tensor, Tensor]:
    """Mean and variance of the averaged student's pictures, by channel."""
    x0 = walks(m, backbone).states[-1].flatten(0, 1)
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
) -> Cast:
    """Base, student and critic of `backbone`, and a specialised teacher that is exact for the world `other`."""
    cast = assemble(backbone, student, critic, TeachersSpec(), iterations=iterations, draw=DRAW)
    network = Network("other", backbone, GaussianNetwork(other, SIGMAS).requires_grad_(False))
    by_name = {**cast.teachers.teachers, "other": Teacher(network, guidance or {})}  # type: ignore[dict-item]
    plan = TeacherPlan((Column("other", weights_K),))
    return Cast(cast.student, cast.critic, Teachers(plan, by_name, iterations, Trust(["other"], adaptive)))


def trained(m: Method, backbone: ToyBackbone, iterations: int) -> list[dict[str, float | None]]:
    """So many iterations, each followed by what the trainer's loop does about trust; their figures."""
    told = []
    for i in range(iterations):
        figures = read(m.iterate(i, m.exit_step("t2i", i), batch_of(backbone, i)))
        told.append(figures)
        for name, pull in pulls_of(figures).items():
            m.cast.teachers.trust.follow(name, pull)
    return told
