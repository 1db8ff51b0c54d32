"""Two teachers on Gaussian worlds: where the step-wise rule ends, and what trust does on the way."""

import pytest
import torch
from torch import Tensor

from fewstep.backbones.testing.toy import (
    GaussianWorld,
    ToyBackbone,
    gain,
    geometric_mixture,
)
from fewstep.roles.plan import AdaptivePlan
from tests.train.gaussian_runs import (
    BASE,
    ITERATIONS,
    SIGMAS,
    law,
    moved,
    plans,
    step_over,
    student_rollout,
    trained,
    with_teacher,
)

OFFSET = torch.tensor([0.8, -0.8, 0.4])
OTHER = BASE.moved(OFFSET)


def test_each_step_ends_at_the_mixture_of_its_own_row() -> None:
    """The step-wise rule's fixed point: step k's clean estimates have the law of the geometric mixture with row k's
    weights, so the pictures, which are the last step's, that of the last row. Equal spreads."""
    rows = (0.0, 0.0, 0.25, 0.5)
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    m = step_over(with_teacher(backbone, OTHER, rows, student, critic, iterations=60), student, critic)
    trained(m, backbone, 60)
    rollout, where = student_rollout(m, backbone), moved(backbone)
    for k, lam in enumerate(rows):
        mixture = geometric_mixture([BASE, OTHER], [1 - lam, lam])
        mean = rollout.clean(k).flatten(0, 1).mean(0)
        assert (mean - where - mixture.mean_ND[0]).abs().max() < 0.08, k
    mean, var = law(m, backbone)
    assert (var / BASE.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def fixed_point(worlds: list[GaussianWorld], weights: list[float]) -> GaussianWorld:
    """Where distribution matching rests for teachers of any spread, under one normaliser.

    A student x0 = m + s u is at rest where E g = 0 and E g u = 0 with g = t (sum_w lambda_w v_w - v_fake) and its exact
    critic. Velocities are affine in z with slope G_w(t), so with t uniform these are
      sum_t t (1 - t) (sum_w lambda_w G_w(t) - G(t; s^2)) = 0, solved for s by halving, and, linear in m,
      sum_t t sum_w lambda_w (1 + (1 - t) G_w(t)) (m - m_w) = 0.
    """
    t = torch.linspace(0.02, 0.98, 2001, dtype=torch.float64)

    def slopes(var: Tensor) -> Tensor:
        by_time = t[:, None, None]
        return gain(var, (1 - by_time) ** 2 * var + by_time**2, t)[:, 0]  # TD

    taught = [
        (w, world.mean_ND.double(), slopes(world.var_ND.double())) for w, world in zip(weights, worlds, strict=True)
    ]
    asked = sum(w * slope for w, _, slope in taught)
    low, high = (torch.full((1, 3), edge, dtype=t.dtype) for edge in (1e-3, 10.0))
    for _ in range(60):
        var = (low + high) / 2
        wide = (t * (1 - t)) @ (asked - slopes(var)) > 0  # a wider world has a smaller slope
        low, high = torch.where(wide, low, var), torch.where(wide, var, high)
    pulls = [w * (t @ (1 + (1 - t)[:, None] * slope)) for w, _, slope in taught]
    mean = sum(pull * m for pull, (_, m, _) in zip(pulls, taught, strict=True)) / sum(pulls)
    return GaussianWorld(mean.float(), var.float())


def test_of_equal_spread_the_fixed_point_is_the_geometric_mixture() -> None:
    rest, mixture = fixed_point([BASE, OTHER], [0.7, 0.3]), geometric_mixture([BASE, OTHER], [0.7, 0.3])
    torch.testing.assert_close(rest.mean_ND, mixture.mean_ND, atol=1e-4, rtol=0)
    torch.testing.assert_close(rest.var_ND, mixture.var_ND, atol=1e-4, rtol=1e-4)


def test_teachers_of_other_spread_meet_at_the_fixed_point() -> None:
    """Which is no mixture of theirs, and is known all the same: a wider specialised teacher, then a narrower one."""
    for spread in (2.5, 0.3):
        backbone = ToyBackbone(BASE, knots=SIGMAS)
        other = GaussianWorld(OTHER.mean_ND, spread * OTHER.var_ND)
        student, critic = plans()
        roles = with_teacher(backbone, other, (0.5,) * 4, student, critic, iterations=60)
        m = step_over(roles, student, critic, normaliser_floor=1e3)
        trained(m, backbone, 60)
        rest = fixed_point([BASE, other], [0.5, 0.5])
        mean, var = law(m, backbone)
        assert (mean - moved(backbone) - rest.mean_ND[0]).abs().max() < 0.08
        assert (var / rest.var_ND[0]).sqrt().sub(1).abs().max() < 0.12
        assert (rest.var_ND / BASE.var_ND).sqrt().sub(1).abs().min() > 0.1  # far from the base's own


def test_pulls_settle_where_they_balance() -> None:
    """Measured, with a critic and a student that learn: near 1 in the end, for a constant weight."""
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    m = step_over(with_teacher(backbone, OTHER, (0.5,) * 4, student, critic, iterations=60), student, critic)
    history = trained(m, backbone, 60)
    late = torch.tensor([figures["pull/other"] for figures in history[40:]])
    assert 0.75 < float(late.median()) < 1.25
    assert float(torch.tensor([figures["cosine/other"] for figures in history[40:]]).median()) > 0.9
    assert history[0]["pull/other"] > 1.5  # type: ignore[operator] - a student that begins as the base


@pytest.mark.parametrize(("bound", "rises"), [(2.0, True), (0.5, False)])
def test_trust_follows_the_measured_pull(bound: float, rises: bool) -> None:
    """Up to its ceiling where the student keeps up; down under a bound that no student can hold, since pulls balance
    at 1 - until the weight is so small that the student's own distance from the base, as the critic knows it, is most
    of what is measured."""
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    region = AdaptivePlan(bound=bound, start=0.4, least=0.1, raise_by=1.05, lower_by=0.9)
    roles = with_teacher(backbone, OTHER, (0.5,) * 4, student, critic, iterations=60, adaptive=region)
    m = step_over(roles, student, critic)
    trained(m, backbone, 60)
    share = roles.teachers.trust.shares["other"]
    assert share == 1.0 if rises else share < 0.2
    mean, _ = law(m, backbone)
    went = float(((mean - moved(backbone) - BASE.mean_ND[0]) @ OFFSET) / (OFFSET @ OFFSET))
    assert went == pytest.approx(0.5 * share, abs=0.12)


def test_a_weight_of_zero_is_the_base_alone_to_the_last_bit() -> None:
    laws = []
    for rows in ((0.0,) * 4, None):
        backbone = ToyBackbone(BASE, knots=SIGMAS)
        student, critic = plans()
        roles = with_teacher(backbone, OTHER, rows or (0.0,) * 4, student, critic, iterations=ITERATIONS)
        if rows is None:
            roles.teachers.teachers.pop("other")
        m = step_over(roles, student, critic)
        trained(m, backbone, 3)
        assert set(roles.teachers.forwards) == {"base"}
        laws.append(torch.stack(law(m, backbone)))
    torch.testing.assert_close(laws[0], laws[1], rtol=0, atol=0)
