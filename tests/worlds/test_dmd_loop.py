"""The whole iteration on Gaussian worlds: mean and spread of a 4-step student reach those of its teachers."""

import pytest
import torch
from torch import Tensor

from fewstep.backbones.toy import GaussianNetwork, GaussianWorld, ToyBackbone, geometric
from fewstep.conditioning import stack
from fewstep.encode.loader import Batch
from fewstep.flow.noise import Draw
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import roll_out
from fewstep.roles.assemble import Cast, assemble
from fewstep.roles.network import Network
from fewstep.roles.plan import CriticPlan, StudentPlan, TeachersSpec
from fewstep.roles.teacher_plan import Column, TeacherPlan
from fewstep.roles.teachers import Teacher, Teachers
from fewstep.train.average import Average
from fewstep.train.distill import Method, exit_step
from fewstep.train.learner import Learner
from fewstep.train.watch import Clock

SIGMAS = (1.0, 0.9, 0.75, 0.5)
BASE = GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]]), torch.tensor([[0.3, 0.4, 0.5]]))
SAMPLES, SIDE = 16, 64  # 16 samples of 16 tokens, which all obey one law
DRAW = Draw(0)
ITERATIONS = 50


def batch_of(backbone: ToyBackbone, i: int) -> Batch:
    samples = tuple(range(i * SAMPLES, (i + 1) * SAMPLES))
    cond = stack(backbone.encode(["a word"], None, (SIDE, SIDE)) * SAMPLES)
    return Batch(i, "t2i", cond, {}, samples, ("landscape",) * SAMPLES, ("a",) * SAMPLES)


def method(cast: Cast, student: StudentPlan, critic: CriticPlan) -> Method:
    learners = Learner(cast.student, student), Learner(cast.critic, critic)
    average = Average(cast.student, student.ema)
    return Method(cast, student, critic, ObjectivePlan(), DRAW, *learners, average, Clock(torch.device("cpu")))


def plans(learning_rate: float = 0.04) -> tuple[StudentPlan, CriticPlan]:
    student = StudentPlan(mode="full", sigmas=SIGMAS, learning_rate=learning_rate, ema=0.9)
    return student, CriticPlan(mode="full", learning_rate=3 * learning_rate, updates=2)


def law(m: Method, backbone: ToyBackbone) -> tuple[Tensor, Tensor]:
    """Mean and variance of the averaged student's pictures, by channel."""
    cond = stack(backbone.encode(["a word"], None, (SIDE, SIDE)) * 250)
    with torch.no_grad(), m.average.applied():
        eps = DRAW.normal((250, 16, 3), "look")
        x0 = roll_out(m.cast.student.bind(cond), eps, m.student.grid).states[-1].flatten(0, 1)
    return x0.mean(0), x0.var(0)


def test_mean_and_spread_reach_the_teachers() -> None:
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    cast = assemble(backbone, student, critic, TeachersSpec(), iterations=ITERATIONS, draw=DRAW)
    with torch.no_grad():
        cast.student.transformer.get_parameter("offset_KND").add_(0.3)
    m = method(cast, student, critic)
    true = backbone.world_of(batch_of(backbone, 0).cond.rows([0]))
    mean, var = law(m, backbone)
    assert (mean - true.mean_ND[0, 0]).abs().max() > 0.15  # displaced, and too narrow as any Euler walk of 4 steps
    assert (var / true.var_ND[0]).max() < 0.5
    for i in range(ITERATIONS):
        m.iterate(i, exit_step(DRAW, "t2i", i, 4), batch_of(backbone, i))
    mean, var = law(m, backbone)
    assert (mean - true.mean_ND[0, 0]).abs().max() < 0.06
    assert (var / true.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_two_teachers_meet_at_the_geometric_mixture() -> None:
    """Weights .75 and .25 on worlds of equal spread: mixing velocities mixes scores, so the student's law is the
    normalised product of their densities."""
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    other = BASE.moved(torch.tensor([0.8, -0.8, 0.4]))
    student, critic = plans()
    cast = assemble(backbone, student, critic, TeachersSpec(), iterations=ITERATIONS, draw=DRAW)
    plan = TeacherPlan((Column("other", (0.25,) * 4),))
    network = Network("other", backbone, GaussianNetwork(other, SIGMAS).requires_grad_(False))
    teachers = Teachers(plan, {**cast.teachers.teachers, "other": Teacher(network, {})}, iterations=ITERATIONS)
    m = method(Cast(cast.student, cast.critic, teachers), student, critic)
    for i in range(ITERATIONS):
        m.iterate(i, exit_step(DRAW, "t2i", i, 4), batch_of(backbone, i))
    moved = backbone.world_of(batch_of(backbone, 0).cond.rows([0])).mean_ND[0, 0] - BASE.mean_ND[0]
    mixture = geometric([BASE, other], [0.75, 0.25])
    mean, var = law(m, backbone)
    assert (mean - moved - mixture.mean_ND[0]).abs().max() < 0.06
    assert (var / mixture.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_an_iteration_leaves_agreement_alone() -> None:
    """Teacher, critic and student of one law, and a walk of one exact step: nothing is left to learn, so nothing moves
    beyond the noise of the critic's own gradient."""
    point = GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]]), torch.full((1, 3), 1e-6))
    backbone = ToyBackbone(point, knots=SIGMAS)
    student, critic = plans(1e-4)
    m = method(assemble(backbone, student, critic, TeachersSpec(), iterations=1, draw=DRAW), student, critic)
    seen = m.iterate(0, 0, batch_of(backbone, 0))
    assert float(seen["gap"]) == pytest.approx(0, abs=1e-2)
    assert float(seen["cosine"]) == pytest.approx(1, abs=1e-3)
