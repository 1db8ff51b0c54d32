"""The pull of a specialised teacher, where everything about it is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.backbones.testing.toy import GaussianWorld, geometric_mixture
from fewstep.flow.rng import NamedRNG
from fewstep.objective.mismatch import mismatch

R, N = 5, 4
F64 = torch.float64
BASE = GaussianWorld(torch.tensor([[0.3, -0.2, 0.0]], dtype=F64), torch.tensor([[0.3, 0.4, 0.5]], dtype=F64))
OTHER = BASE.moved(torch.tensor([0.8, -0.8, 0.4], dtype=F64))
weights, times = st.floats(0.05, 1), st.floats(0.02, 0.98)


def measured(student: GaussianWorld, lam: float, t: float, other: GaussianWorld = OTHER) -> dict[str, float]:
    t_R, z = torch.full((R,), t, dtype=F64), NamedRNG(1).normal((R, N, 3), "z").double()
    v = [world.velocity(z, t_R) for world in (other, BASE, student)]
    return {name: float(value) for name, value in mismatch(*v, torch.full((R,), lam)).items()}


@given(weights, times)
def test_at_the_optimum_the_pulls_balance_whatever_the_weight(lam: float, t: float) -> None:
    """DMD's optimum for a constant lambda is the geometric mixture: cosine 1, pull 1, ratio 1 / lambda."""
    found = measured(geometric_mixture([BASE, OTHER], [1 - lam, lam]), lam, t)
    assert found["cosine"] == pytest.approx(1, abs=1e-4)
    assert found["pull"] == pytest.approx(1, rel=1e-4)
    assert found["ratio"] == pytest.approx(1 / lam, rel=1e-4)


@given(weights, times, st.floats(0.1, 2))
def test_the_pull_is_asked_over_followed(lam: float, t: float, share: float) -> None:
    """A student that has gone `share` of the way from the base to where lambda leads."""
    offset = share * lam * (OTHER.mean_ND - BASE.mean_ND)
    found = measured(BASE.moved(offset), lam, t)
    assert found["pull"] == pytest.approx(1 / share, rel=1e-4)
    assert found["cosine"] == pytest.approx(1, abs=1e-4)


@given(weights, times)
def test_lowering_the_weight_lowers_the_pull_but_not_the_ratio(lam: float, t: float) -> None:
    """At once, before the student moves: what makes the rule a trust region and not a runaway."""
    student = geometric_mixture([BASE, OTHER], [1 - lam, lam])
    before, after = measured(student, lam, t), measured(student, lam / 2, t)
    assert after["pull"] == pytest.approx(before["pull"] / 2, rel=1e-6)
    assert after["ratio"] == pytest.approx(before["ratio"], rel=1e-6)


def test_a_student_elsewhere_shows_in_the_cosine() -> None:
    ahead, beside = (BASE.moved(torch.tensor(offset, dtype=F64)) for offset in ([0.8, 0.0, 0.0], [0.0, 0.8, 0.0]))
    assert measured(beside, 0.5, 0.5, other=ahead)["cosine"] == pytest.approx(0, abs=1e-6)
    assert measured(BASE.moved(-0.1 * (OTHER.mean_ND - BASE.mean_ND)), 0.5, 0.5)["cosine"] == pytest.approx(-1)


def test_a_student_on_the_base_is_pulled_without_end_but_finitely() -> None:
    found = measured(BASE, 0.5, 0.5)
    assert found["pull"] > 1e6
    assert torch.tensor(list(found.values())).isfinite().all()
    nothing = measured(BASE, 0.5, 0.5, other=BASE)
    assert nothing["cosine"] == 0


def test_one_sample_near_the_base_does_not_decide_alone() -> None:
    d, e = torch.ones(2, N, 3), torch.ones(2, N, 3)
    e[0] *= 1e-9
    found = mismatch(d, torch.zeros_like(d), e, torch.ones(2))
    assert float(found["ratio"]) == pytest.approx(2**0.5, rel=1e-4)
