"""Extra losses of the objective on Gaussian worlds: unbiased, and silent where they should be."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewstep.backbones.conditioning import stack
from fewstep.backbones.testing.toy import (
    GaussianNetwork,
    GaussianWorld,
    ToyBackbone,
    euler_law,
    gain,
)
from fewstep.flow import path
from fewstep.flow.guidance import Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.objective.decoupled_guidance import (
    guidance_gradient,
    guidance_loss,
    guidance_times,
)
from fewstep.objective.dmd import dmd_gradient
from fewstep.objective.first_step_anchor import anchor_loss
from fewstep.objective.rollout import roll_out
from fewstep.objective.segment_guidance import mean_velocity, segment_loss
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import TeachersSpec
from fewstep.roles.roles import Roles
from fewstep.roles.teachers import Teacher, Teachers
from tests.train import gaussian_runs
from tests.train.gaussian_runs import (
    BASE,
    RNG,
    SAMPLES,
    SIDE,
    SIGMAS,
    batch_of,
    law,
    moved,
    plans,
    step_over,
    student_rollout,
    trained,
)

GRID = SigmaGrid.of(SIGMAS)
B, N, D = 6, 4, 3
NO_NORMALISER = 1e3  # a floor above every mean|x0 - x0_real|: all times are divided by one number


def finer(steps: int) -> SigmaGrid:
    """Every segment of GRID in so many even steps."""
    return SigmaGrid.of([s + (GRID.after(k) - s) * n / steps for k, s in enumerate(GRID) for n in range(steps)])


def roles_of(backbone: ToyBackbone, iterations: int) -> Roles:
    return build_roles(backbone, RolesSpec(*plans(), TeachersSpec(), iterations), RNG)


# ---- the teacher's mean velocity


@given(st.floats(0.1, 1), st.floats(0, 0.9))
@settings(max_examples=25)
def test_many_fine_steps_arrive_where_the_flow_does(start: float, share: float) -> None:
    """A Gaussian world's flow keeps every point's distance from the mean, in standard deviations."""
    world, end = GaussianWorld(BASE.mean_ND.double(), BASE.var_ND.double()), share * start
    z = RNG.normal((B, N, D), "z").double()
    (mean, var), (there_mean, there_var) = (world.at(torch.full((B,), t, dtype=z.dtype)) for t in (start, end))
    arrived = there_mean + (there_var / var).sqrt() * (z - mean)
    v = mean_velocity(world.velocity, z, start, end, 400)
    torch.testing.assert_close(v.double(), (arrived - z) / (end - start), rtol=0.02, atol=0.02)


def test_one_step_is_the_velocity_itself() -> None:
    z, t = RNG.normal((B, N, D), "z"), torch.full((B,), 0.75)
    torch.testing.assert_close(mean_velocity(BASE.velocity, z, 0.75, 0.5, 1), BASE.velocity(z, t))


# ---- segment guidance


def test_segment_guidance_is_silent_at_the_teachers_mean_velocity() -> None:
    z = RNG.normal((B, N, D), "z")
    for k in range(4):
        v = mean_velocity(BASE.velocity, z, GRID[k], GRID.after(k), 3).requires_grad_()
        loss, _ = segment_loss(v, BASE.velocity, z, GRID, k, 3)
        (slope,) = torch.autograd.grad(loss, v)
        assert loss == 0
        assert not slope.any()


def test_segment_guidance_has_no_noise() -> None:
    """Its gradient leads straight to the one minimiser, from anywhere."""
    z, v = RNG.normal((B, N, D), "z"), RNG.normal((B, N, D), "v").requires_grad_()
    loss, metrics = segment_loss(v, BASE.velocity, z, GRID, 1, 3)
    (slope,) = torch.autograd.grad(loss, v)
    target = mean_velocity(BASE.velocity, z, GRID[1], GRID.after(1), 3)
    torch.testing.assert_close(v.detach() - slope * v.numel() / 2, target)
    torch.testing.assert_close(metrics["target"], target.square().mean())


def learnt_alone(network: GaussianNetwork, loss_at: object, rounds: int = 400) -> None:
    """So many rounds of a loss by step k, and nothing else."""
    adam = torch.optim.Adam(network.parameters(), lr=0.05)
    for i in range(rounds):
        for group in adam.param_groups:
            group["lr"] = 0.05 * (1 - i / rounds)
        adam.zero_grad()
        loss_at(i).backward()  # type: ignore[operator]
        adam.step()


def test_segment_guidance_alone_teaches_the_teachers_own_finer_trajectory() -> None:
    """Known in closed form: the law of the Euler trajectory whose every segment takes three steps."""
    network = GaussianNetwork(BASE.moved(torch.tensor(0.4)), SIGMAS)

    def loss_at(i: int) -> Tensor:
        rollout, k = roll_out(network, RNG.normal((64, 4, D), "noise", i), GRID), i % 4
        z = rollout.states[k]
        return segment_loss(network(z, rollout.time(k)), BASE.velocity, z, GRID, k, 3)[0]

    learnt_alone(network, loss_at)
    ends = roll_out(network, RNG.normal((4000, 4, D), "look"), GRID).states
    for k, law_there in enumerate(euler_law(BASE, finer(3))[::3]):
        flat = ends[k].flatten(0, 1)
        torch.testing.assert_close(flat.mean(0), law_there.mean_ND[0], atol=0.03, rtol=0)
        torch.testing.assert_close(flat.var(0), law_there.var_ND[0], atol=0.03, rtol=0.05)


# ---- first-step anchor


def test_the_anchor_is_silent_once_the_first_step_is_the_teachers_trajectory() -> None:
    eps = RNG.normal((B, N, D), "eps")

    def student(z: Tensor, t: Tensor) -> Tensor:
        return mean_velocity(BASE.velocity, z, GRID[0], GRID.after(0), 5)

    loss, _ = anchor_loss(student, BASE.velocity, eps, GRID, 5)
    assert loss == 0
    assert anchor_loss(BASE.moved(torch.tensor(0.3)).velocity, BASE.velocity, eps, GRID, 5)[0] > 0.01


def test_with_the_anchor_the_first_step_is_the_teachers_and_the_rest_still_match() -> None:
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    roles = roles_of(backbone, 60)
    with torch.no_grad():
        roles.student.transformer.get_parameter("offset_KND").add_(0.3)
    m = step_over(roles, *plans(), first_step_anchor={"weight": 0.05, "teacher_steps": 5})
    assert {m.student.exit_step("t2i", turn) for turn in range(60)} == {1, 2, 3}
    history = trained(m, backbone, 60)
    assert history[-1]["anchor_loss"] < 0.01 * history[0]["anchor_loss"]  # type: ignore[operator]
    world = GaussianWorld(BASE.mean_ND + moved(backbone), BASE.var_ND)
    first = euler_law(world, SigmaGrid.of([1 - 0.1 * n / 5 for n in range(5)] + [0.9]))[5]
    state = student_rollout(m, backbone).states[1].flatten(0, 1)
    torch.testing.assert_close(state.mean(0), first.mean_ND[0], atol=0.03, rtol=0)
    torch.testing.assert_close(state.var(0), first.var_ND[0], atol=0.03, rtol=0)
    mean, var = law(m, backbone)
    assert (mean - world.mean_ND[0]).abs().max() < 0.08
    assert (var / world.var_ND[0]).sqrt().sub(1).abs().max() < 0.15


def test_without_detach_the_first_step_is_matched_too() -> None:
    m = step_over(roles_of(ToyBackbone(BASE, knots=SIGMAS), 4), *plans(), first_step_anchor={"detach": False})
    assert {m.student.exit_step("t2i", turn) for turn in range(4)} == {0, 1, 2, 3}


def test_the_anchor_of_one_task_leaves_the_other_to_matching() -> None:
    backbone = ToyBackbone(BASE, knots=SIGMAS)
    m = step_over(roles_of(backbone, 4), *plans(), first_step_anchor={"tasks": ["edit"]})
    assert {m.student.exit_step("t2i", turn) for turn in range(12)} == {0, 1, 2, 3}
    assert {m.student.exit_step("edit", turn) for turn in range(12)} == {1, 2, 3}
    plain = step_over(roles_of(ToyBackbone(BASE, knots=SIGMAS), 4), *plans())
    history, expected = trained(m, backbone, 4), trained(plain, plain.roles.student.backbone, 4)
    assert "anchor_loss" not in history[0]
    assert [line["student_loss"] for line in history] == [line["student_loss"] for line in expected]


# ---- decoupled guidance


def worlds() -> tuple[GaussianWorld, GaussianWorld]:
    """With the prompt, and without."""
    return BASE, BASE.moved(torch.tensor([0.5, 0.0, -0.3]))


def test_together_the_two_terms_are_the_undivided_gradient() -> None:
    """At one t and under one normaliser; guidance of any kind."""
    (cond, uncond), scale = worlds(), 3.0
    x0, t = RNG.normal((B, N, D), "x0"), torch.linspace(0.05, 0.95, B)
    z = path.noised(x0, RNG.normal((B, N, D), "eps"), t)
    v_c, v_u, v_fake = cond.velocity(z, t), uncond.velocity(z, t), BASE.moved(torch.tensor(0.2)).velocity(z, t)
    v_guided = v_u + scale * (v_c - v_u)
    apart = dmd_gradient(x0, z, t, v_c, v_fake, NO_NORMALISER)
    apart = apart + guidance_gradient(x0, z, t, v_c, v_guided - v_c, NO_NORMALISER)
    torch.testing.assert_close(apart, dmd_gradient(x0, z, t, v_guided, v_fake, NO_NORMALISER), rtol=1e-4, atol=1e-7)


def test_guidance_of_scale_one_is_silent() -> None:
    (cond, _), x0 = worlds(), RNG.normal((B, N, D), "x0").requires_grad_()
    t = torch.full((B,), 0.4)
    v_c = cond.velocity(x0.detach(), t)
    loss, metrics = guidance_loss(x0, x0.detach(), t, v_c, torch.zeros_like(v_c), 0.05)
    (slope,) = torch.autograd.grad(loss, x0)
    assert loss == metrics["gradient"] == 0
    assert not slope.any()


@given(st.floats(0, 0.999), st.floats(0.01, 1), st.sampled_from([0.02, 0.3]))
def test_its_times_lie_below_the_students_and_above_the_lowest(u: float, t_k: float, low: float) -> None:
    t = float(guidance_times(torch.tensor(u), t_k, low))
    assert min(low, t_k) * (1 - 1e-6) <= t <= t_k * (1 + 1e-6)


def strength(t_B: Tensor) -> Tensor:
    """a(t): t (v_1 - v_2) = -a(t) (m_1 - m_2) for worlds of BASE's spread; (B, D)."""
    t = t_B[:, None, None]
    return (t * (1 + (1 - t) * gain(BASE.var_ND, BASE.at(t_B)[1], t_B)))[:, 0]


@pytest.mark.parametrize("k", [1, 3])
def test_its_mean_gradient_is_the_closed_form_and_cancels_where_it_should(k: int) -> None:
    """Under one normaliser both terms are linear in means, so the fixed point is known: the student goes beyond the
    prompt's mean by (s - 1) (m_c - m_u) E a(t') / E a(t), with t' below t_k and t over all levels."""
    (cond, uncond), scale, n = worlds(), 2.5, 60_000
    levels, below = torch.linspace(0.02, 0.98, 2001), guidance_times(torch.linspace(0, 1, 2001)[:-1], GRID[k], 0.02)
    away = (scale - 1) * (cond.mean_ND - uncond.mean_ND) * strength(below).mean(0) / strength(levels).mean(0)
    means = []
    for offset in (away, torch.zeros_like(away)):
        student = cond.moved(offset)
        x0 = student.sample(RNG.normal((n, 1, D), "x0"))
        t, t_ca = 0.02 + 0.96 * RNG.uniform((n,), "t"), guidance_times(RNG.uniform((n,), "t ca"), GRID[k], 0.02)
        z, z_ca = (path.noised(x0, RNG.normal((n, 1, D), f"eps{i}"), at) for i, at in enumerate((t, t_ca)))
        g = dmd_gradient(x0, z, t, cond.velocity(z, t), student.velocity(z, t), NO_NORMALISER)
        v_c, v_u = cond.velocity(z_ca, t_ca), uncond.velocity(z_ca, t_ca)
        added = guidance_gradient(x0, z_ca, t_ca, v_c, (scale - 1) * (v_c - v_u), NO_NORMALISER)
        expected = -(scale - 1) * strength(below).mean(0) * (cond.mean_ND - uncond.mean_ND)[0] / NO_NORMALISER
        torch.testing.assert_close(added.mean((0, 1)), expected, rtol=0.02, atol=1e-6)
        means.append((g + added).mean((0, 1)) * NO_NORMALISER)
    assert means[0].abs().max() < 0.01 * means[1].abs().max()


def guided_cast(backbone: ToyBackbone, scale: float) -> Roles:
    roles = roles_of(backbone, 40)
    base = Teacher(roles.teachers.teachers["base"].network, {"t2i": Guidance(scale)})
    return Roles(roles.student, roles.critic, Teachers(roles.teachers.plan, {"base": base}, 40))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_run_with_decoupled_guidance(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unguided, it is the plain run to the last bit and costs nothing; guided, the student goes beyond the prompt."""
    empty = stack(ToyBackbone(BASE).encode([""], None, (SIDE, SIDE)) * SAMPLES)
    monkeypatch.setattr(gaussian_runs, "batch_of", lambda b, i: replace(batch_of(b, i), negatives={"": empty}))
    means, forwards = [], []
    for decoupled in (True, False):
        backbone = ToyBackbone(BASE, knots=SIGMAS)
        roles = guided_cast(backbone, scale)
        m = step_over(roles, *plans(), decoupled_guidance=decoupled)
        trained(m, backbone, 40)
        means.append(law(m, backbone)[0])
        forwards.append(roles.teachers.forwards["base"])
    if scale == 1.0:
        torch.testing.assert_close(means[0], means[1], rtol=0, atol=0)
        assert forwards == [40, 40]
    else:
        prompt = moved(backbone)  # the empty prompt moves the mean elsewhere
        away = prompt - (backbone.world_of(empty.rows([0])).mean_ND[0, 0] - BASE.mean_ND[0])
        beyond = [float((mean - BASE.mean_ND[0] - prompt) @ away / (away @ away)) for mean in means]
        assert 0.1 < beyond[0] < 1.5
        assert 0.5 < beyond[1] < 1.5  # undivided: the guided world's own mean, one `away` beyond
        assert forwards == [3 * 40, 2 * 40]  # the branches differ in length, so they share no forward here
