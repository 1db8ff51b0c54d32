"""The whole iteration on Gaussian worlds: mean and spread of a 4-step student reach those of its teachers."""

import pytest
import torch

from fewstep.backbones.testing.toy import (
    GaussianWorld,
    ToyBackbone,
    geometric_mixture,
)
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import TeachersSpec
from tests.train.gaussian_runs import (
    BASE,
    ITERATIONS,
    RNG,
    SIGMAS,
    batch_of,
    law,
    moved,
    plans,
    step_over,
    trained,
    with_teacher,
)


def test_mean_and_spread_reach_the_teachers() -> None:
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    roles = build_roles(backbone, RolesSpec(student, critic, TeachersSpec(), ITERATIONS), RNG)
    with torch.no_grad():
        roles.student.transformer.get_parameter("offset_KND").add_(0.3)
    m = step_over(roles, student, critic)
    true = backbone.world_of(batch_of(backbone, 0).cond.rows([0]))
    mean, var = law(m, backbone)
    assert (
        mean - true.mean_ND[0, 0]
    ).abs().max() > 0.15  # displaced, and too narrow as any Euler trajectory of 4 steps
    assert (var / true.var_ND[0]).max() < 0.5
    trained(m, backbone, ITERATIONS)
    mean, var = law(m, backbone)
    assert (mean - true.mean_ND[0, 0]).abs().max() < 0.06
    assert (var / true.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_two_teachers_meet_at_the_geometric_mixture() -> None:
    """Weights 0.75 and 0.25 on worlds of equal spread: mixing velocities mixes scores, so the student's law is the
    normalised product of their densities."""
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    other = BASE.moved(torch.tensor([0.8, -0.8, 0.4]))
    student, critic = plans()
    roles = with_teacher(backbone, other, (0.25,) * 4, student, critic, iterations=ITERATIONS)
    m = step_over(roles, student, critic)
    trained(m, backbone, ITERATIONS)
    mixture = geometric_mixture([BASE, other], [0.75, 0.25])
    mean, var = law(m, backbone)
    assert (mean - moved(backbone) - mixture.mean_ND[0]).abs().max() < 0.06
    assert (var / mixture.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_an_iteration_leaves_agreement_alone() -> None:
    """Teacher, critic and student of one law, and a trajectory of one exact step: nothing is left to learn, so nothing
    moves beyond the noise of the critic's own gradient."""
    point = GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]]), torch.full((1, 3), 1e-6))
    backbone = ToyBackbone(point, knots=SIGMAS)
    student, critic = plans(1e-4)
    m = step_over(build_roles(backbone, RolesSpec(student, critic, TeachersSpec(), 1), RNG), student, critic)
    metrics = m.iterate(0, 0, batch_of(backbone, 0))
    assert float(metrics["gap"]) == pytest.approx(0, abs=1e-2)
    assert float(metrics["cosine"]) == pytest.approx(1, abs=1e-3)
