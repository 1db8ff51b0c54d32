"""Two teachers on Gaussian worlds: where the step-wise rule ends, and what trust does on the way."""

import pytest
import torch
from small_runs import BASE, ITERATIONS, SIGMAS, law, method, moved, plans, trained, walks, with_teacher

from fewstep.backbones.toy import ToyBackbone, geometric
from fewstep.roles.plan import AdaptivePlan

OFFSET = torch.tensor([0.8, -0.8, 0.4])
OTHER = BASE.moved(OFFSET)


def test_each_step_ends_at_the_mixture_of_its_own_row() -> None:
    """The step-wise rule's fixed point: step k's clean estimates have the law of the geometric mixture with row k's
    weights, so the pictures, which are the last step's, that of the last row. Equal spreads."""
    rows = (0.0, 0.0, 0.25, 0.5)
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    m = method(with_teacher(backbone, OTHER, rows, student, critic, iterations=60), student, critic)
    trained(m, backbone, 60)
    rollout, where = walks(m, backbone), moved(backbone)
    for k, lam in enumerate(rows):
        mixture = geometric([BASE, OTHER], [1 - lam, lam])
        mean = rollout.clean(k).flatten(0, 1).mean(0)
        assert (mean - where - mixture.mean_ND[0]).abs().max() < 0.08, k
    mean, var = law(m, backbone)
    assert (var / BASE.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_pulls_settle_where_they_balance() -> None:
    """Measured, with a critic and a student that learn: near 1 in the end, for a constant weight."""
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    m = method(with_teacher(backbone, OTHER, (0.5,) * 4, student, critic, iterations=60), student, critic)
    told = trained(m, backbone, 60)
    late = torch.tensor([figures["pull/other"] for figures in told[40:]])
    assert 0.75 < float(late.median()) < 1.25
    assert float(torch.tensor([figures["cosine/other"] for figures in told[40:]]).median()) > 0.9
    assert told[0]["pull/other"] > 1.5  # type: ignore[operator] - a student that begins as the base


@pytest.mark.parametrize(("bound", "rises"), [(2.0, True), (0.5, False)])
def test_trust_follows_the_measured_pull(bound: float, rises: bool) -> None:
    """Up to its ceiling where the student keeps up; down under a bound that no student can hold, since pulls balance
    at 1 - until the weight is so small that the student's own distance from the base, as the critic knows it, is most
    of what is measured."""
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    student, critic = plans()
    region = AdaptivePlan(bound=bound, start=0.4, least=0.1, raise_by=1.05, lower_by=0.9)
    cast = with_teacher(backbone, OTHER, (0.5,) * 4, student, critic, iterations=60, adaptive=region)
    m = method(cast, student, critic)
    trained(m, backbone, 60)
    share = cast.teachers.trust.shares["other"]
    assert share == 1.0 if rises else share < 0.2
    mean, _ = law(m, backbone)
    went = float(((mean - moved(backbone) - BASE.mean_ND[0]) @ OFFSET) / (OFFSET @ OFFSET))
    assert went == pytest.approx(0.5 * share, abs=0.12)


def test_a_weight_of_zero_is_the_base_alone_to_the_last_bit() -> None:
    laws = []
    for rows in ((0.0,) * 4, None):
        backbone = ToyBackbone(BASE, knots=SIGMAS)
        student, critic = plans()
        cast = with_teacher(backbone, OTHER, rows or (0.0,) * 4, student, critic, iterations=ITERATIONS)
        if rows is None:
            cast.teachers.teachers.pop("other")
        m = method(cast, student, critic)
        trained(m, backbone, 3)
        assert set(cast.teachers.forwards) == {"base"}
        laws.append(torch.stack(law(m, backbone)))
    torch.testing.assert_close(laws[0], laws[1], rtol=0, atol=0)
