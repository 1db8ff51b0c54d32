"""What edits leave alone: silent where student and teacher agree, and pulling back drift outside of the changed region
alone."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from fewstep.backbones.conditioning import stack
from fewstep.backbones.testing.toy import GaussianWorld, ToyBackbone
from fewstep.encode.batch import Batch
from fewstep.objective.preservation import UNCHANGED, outside_changed, preservation_loss
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import TeachersSpec
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import RecipeError
from fewstep.train.dmd_step import DMDStep
from fewstep.train.extra_losses import source_latents
from fewstep.train.monitor import to_host
from tests.train.gaussian_runs import BASE, RNG, SIGMAS, plans, step_over

B, N, D = 3, 16, 4
LEFT = slice(0, N // 2)  # what the teacher leaves alone; it changes the rest


def edit() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z, t, the teacher's velocity and the source, in float64. The teacher's estimate is the source on the left."""
    source, z = RNG.normal((B, N, D), "source").double(), RNG.normal((B, N, D), "z").double()
    t = torch.tensor([1.0, 0.7, 0.3], dtype=torch.float64)
    x0_real = source.clone()
    x0_real[:, N // 2 :] += 3
    return z, t, (z - x0_real) / t[:, None, None], source


def loss_and_slope(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z, t, v_real, source = edit()
    v = v.clone().requires_grad_()
    loss, metrics = preservation_loss(v, v_real, z, t, source)
    (slope,) = torch.autograd.grad(loss, v)
    return loss, slope, metrics["outside"]


def test_it_is_silent_where_the_student_is_the_teacher() -> None:
    loss, slope, outside = loss_and_slope(edit()[2])
    assert loss.dtype == torch.float64
    assert loss == 0
    assert not slope.any()
    assert outside == 0.5


def test_drift_outside_is_pulled_back_and_what_changes_is_left_to_matching() -> None:
    z, t, v_real, source = edit()
    drift = 0.2 * RNG.normal((B, N, D), "drift").double()  # of the student's estimate, everywhere
    v = v_real - drift / t[:, None, None]
    loss, slope, _ = loss_and_slope(v)
    torch.testing.assert_close(loss, drift[:, LEFT].square().sum() / drift.numel())
    assert not slope[:, N // 2 :].any(), "inside it has no gradient"
    # one Newton step along it ends the drift: the loss is quadratic, t^2 / (elements) in each velocity
    mended = v - slope * drift.numel() / (2 * t[:, None, None] ** 2)
    torch.testing.assert_close((z - t[:, None, None] * mended)[:, LEFT], source[:, LEFT])
    assert loss_and_slope(mended)[0] < 1e-20


def test_parts_of_a_batch_add_up() -> None:
    z, t, v_real, source = edit()
    v = v_real + RNG.normal((B, N, D), "v").double()
    whole = preservation_loss(v, v_real, z, t, source)[0]
    parts = [preservation_loss(*(x[rows] for x in (v, v_real, z, t, source)))[0] for rows in (slice(1), slice(1, 3))]
    torch.testing.assert_close(parts[0] / 3 + 2 * parts[1] / 3, whole)


@pytest.mark.parametrize(("away", "outside"), [(0.9, True), (1.1, False)])
def test_the_region_is_relative_to_the_source(away: float, outside: bool) -> None:
    for size in (0.1, 10.0):
        source = size * torch.ones(1, 2, D)
        assert outside_changed(source + away * UNCHANGED * size, source).all() == outside


# ---- in an iteration


def batch_with(backbone: ToyBackbone, task: str, side: int = 64) -> Batch:
    """Edits of a picture that is teal but for one corner. The world is moved so that its mean is the teal."""
    picture = Image.new("RGB", (side, side), (40, 120, 120))
    picture.paste((250, 250, 30), (0, 0, side // 4, side // 4))
    references = [picture] if task == "edit" else None
    cond = stack(backbone.encode(["a word"], references, (64, 64)) * 4)
    return Batch(0, task, cond, {}, tuple(range(4)), ("scene",) * 4, ("a",) * 4)  # type: ignore[arg-type]


def step_with(weight: float, moved: float = 0.0) -> tuple[DMDStep, ToyBackbone]:
    """The base's mean estimate under the edit is the source, but for the corner. moved: of the student's velocities."""
    plain = batch_with(ToyBackbone(BASE, knots=SIGMAS), "edit").cond
    teal = source_latents(plain)[0, -1]  # type: ignore[index]
    mean = BASE.mean_ND + teal - ToyBackbone(BASE).world_of(plain).mean_ND[0]
    backbone = ToyBackbone(GaussianWorld(mean, torch.full_like(mean, 1e-4)), knots=SIGMAS)
    roles = build_roles(backbone, RolesSpec(*plans(), TeachersSpec(), 4), RNG)
    with torch.no_grad():
        roles.student.transformer.get_parameter("offset_KND").add_(moved)
    return step_over(roles, *plans(), preservation=weight), backbone


def test_an_iteration_where_all_agree_is_that_without_it_and_t2i_never_asks_for_it() -> None:
    (on, backbone), (off, _) = step_with(2.0), step_with(0.0)
    found, plain = (to_host(m.iterate(0, 2, batch_with(backbone, "edit"))) for m in (on, off))
    assert found.pop("preservation_loss") == 0
    assert found.pop("preservation_outside") == 15 / 16
    assert found == plain
    asked = on.roles.teachers.forwards["base"]
    assert "preservation_loss" not in on.iterate(1, 2, batch_with(backbone, "t2i"))
    assert on.roles.teachers.forwards["base"] == asked + 1


def test_a_student_that_drifts_is_told_by_the_figure_and_pulled_back() -> None:
    """Beside matching, which pulls as well: the first update's gradient is longer with the term."""
    (on, backbone), (off, _) = step_with(2.0, moved=0.3), step_with(0.0, moved=0.3)
    found, plain = (to_host(m.iterate(0, 2, batch_with(backbone, "edit"))) for m in (on, off))
    drift = SIGMAS[2] * 0.3
    assert found["preservation_loss"] == pytest.approx(15 / 16 * drift**2, rel=1e-3)
    assert found["student_loss"] == pytest.approx(plain["student_loss"] + 2 * found["preservation_loss"], rel=1e-3)  # type: ignore[operator]
    assert found["student_norm"] > plain["student_norm"]  # type: ignore[operator]


def test_a_source_of_another_shape_cannot_be_compared_and_the_figure_says_so() -> None:
    m, backbone = step_with(2.0)
    whole = batch_with(backbone, "edit")
    other = replace(whole.cond.layout, references=((2, 8),))
    found = m.iterate(0, 2, replace(whole, cond=replace(whole.cond, layout=other)))
    assert found["preservation_outside"] == 0
    assert "preservation_loss" not in found


def test_a_recipe_without_edits_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"objective\.preservation is about what edits leave alone, and this recipe"):
        load_recipe("pocket", {"objective.preservation": 0.5, "tasks": {"t2i": 1, "edit": 0}})
    assert load_recipe("pocket", {"objective.preservation": 0.5}).objective.preservation == 0.5
    assert load_recipe("pocket").objective.preservation == 0
