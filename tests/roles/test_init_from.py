"""A student that starts from a user's LoRA is the base with that LoRA merged, whatever the mode, and learns on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.backbones.testing import tiny_qwen_image
from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors, merged
from fewstep.lora.file import read_lora
from fewstep.lora.truncation import truncate
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    AdapterPlan,
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.roles import Roles
from fewstep.roles.validation import (
    initial_update,
    validate_init_from,
    validate_teachers,
)
from fewstep.run.preflight import preflight
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import AdapterError
from tests.reporters import Recorded
from tests.roles.test_lora_teachers import ALPHA, RANK, WRITERS, comfyui, diffusers, linear_shapes, update
from tests.train.tiny_model import batch, normal, tiny

T = torch.tensor([0.7, 0.3])


def roles(file: Path, mode: str = "adapter", rank: int = RANK, alpha: float = ALPHA) -> Roles:
    plan = StudentPlan.model_validate({"mode": mode, "adapter": {"rank": rank, "alpha": alpha}, "init_from": str(file)})
    spec = TeachersSpec.model_validate({})
    return build_roles(tiny(), RolesSpec(plan, CriticPlan(), spec, 1), NamedRNG(0))


def velocities(made: Roles) -> list[torch.Tensor]:
    with torch.no_grad():
        z, cond = normal(2, 4, 8), batch(0).cond
        return [made.student.velocity(z, T, cond), made.critic.velocity(z, T, cond)]


def expected() -> list[torch.Tensor]:
    """The base with the LoRA merged, and the base."""
    lora, plain = tiny(), tiny()
    with torch.no_grad():
        for m, f in update().items():
            weight = lora.transformer.get_submodule(m).weight
            weight.copy_(merged(weight, f, m))
        z, cond = normal(2, 4, 8), batch(0).cond
        return [one.velocity(one.transformer, z, T, cond) for one in (lora, plain)]


@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize(("mode", "rank", "alpha"), [("adapter", RANK, 7.0), ("full", 1, 1.0)])
def test_it_starts_as_the_users_lora(
    write: Callable[[dict[str, Factors], Path], None], mode: str, rank: int, alpha: float, tmp_path: Path
) -> None:
    """From any program's file, in the recipe's own scale; the critic starts as the base."""
    write(update(), tmp_path / "adapter.safetensors")
    for found, wanted in zip(
        velocities(roles(tmp_path / "adapter.safetensors", mode, rank, alpha)), expected(), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_a_lower_rank_is_filled_up_and_the_rest_can_learn(tmp_path: Path) -> None:
    diffusers(update(), tmp_path / "x.safetensors")
    made = roles(tmp_path / "x.safetensors", rank=RANK + 2)
    torch.testing.assert_close(velocities(made)[0], expected()[0], rtol=0, atol=1e-5)
    name = "transformer_blocks.0.attn.to_q"
    own = made.student.named_parameters()
    assert own[f"{name}.lora_A.weight"][RANK:].abs().sum() > 0  # else their gradient would stay zero
    made.student.velocity(normal(2, 4, 8), T, batch(0).cond).square().mean().backward()
    gradient = own[f"{name}.lora_B.weight"].grad
    assert gradient is not None
    assert gradient[:, RANK:].abs().sum() > 0


def test_modules_beyond_the_default_targets_learn_too(tmp_path: Path) -> None:
    shape = linear_shapes()["img_in"]
    a, b = normal(RANK, shape[1], name="a"), normal(shape[0], RANK, name="b")
    save_file(
        {"transformer.img_in.lora_A.weight": a, "transformer.img_in.lora_B.weight": b}, tmp_path / "x.safetensors"
    )
    made = roles(tmp_path / "x.safetensors")
    assert "img_in.lora_A.weight" in made.student.named_parameters()
    assert "img_in.lora_A.weight" not in made.critic.named_parameters()


def test_a_higher_rank_is_cut_down_to_the_students_and_what_that_leaves_out_is_known(tmp_path: Path) -> None:
    diffusers(update(), tmp_path / "x.safetensors")
    plan = StudentPlan(init_from=str(tmp_path / "x.safetensors"), adapter=AdapterPlan(rank=2, alpha=2.0))
    wanted, found = truncate(read_lora(tmp_path / "x.safetensors"), 2), initial_update(plan, linear_shapes())
    assert {f.rank for f in found.values()} == {2}
    for module, f in wanted.updates.items():
        torch.testing.assert_close(f.scale * f.b @ f.a, found[module].scale * found[module].b @ found[module].a)
    whole = plan.model_copy(update={"mode": "full"})
    assert {f.rank for f in initial_update(whole, linear_shapes()).values()} == {RANK}


def test_a_run_warns_of_what_its_narrow_student_cannot_hold() -> None:
    for rank, warning in ((4, "cut down"), (32, "")):
        recipe, reporter = load_recipe("pocket", [f"student.adapter.rank={rank}"]), Recorded()
        cut = validate_init_from(recipe.student, recipe.model)
        assert cut is None or 0 < cut.relative < 1
        preflight(recipe, 1, reporter)
        assert [kind for kind, text in reporter.said if warning and warning in text] == (["warning"] if warning else [])
        assert (cut is None) == (warning == "")


def test_what_does_not_fit_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tiny_qwen_image.qwen_image_edit_pipeline().save_pretrained(tmp_path / "other")
    plan = StudentPlan(init_from="pocket:editor")
    with pytest.raises(
        AdapterError, match=r"^student.init_from: pocket:editor changes .* student.init_from: null takes"
    ):
        validate_init_from(plan, str(tmp_path / "other"))
    recipe = load_recipe("pocket")
    with pytest.raises(AdapterError, match=r"^teachers.named.editor.adapter: .* teachers.named.editor: null takes"):
        validate_teachers(recipe.teachers, 4, str(tmp_path / "other"))


def test_blocks_are_taken_apart_at_their_own_rank(tmp_path: Path) -> None:
    """ComfyUI's fused MLP has both parts' ranks; each part alone needs its own only."""
    comfyui(update(), tmp_path / "x.safetensors")
    plan = StudentPlan(init_from=str(tmp_path / "x.safetensors"), adapter=AdapterPlan(rank=RANK, alpha=1.0))
    assert {f.rank for f in initial_update(plan, linear_shapes()).values()} == {RANK}


def test_alphas_for_some_modules_alone_are_refused(tmp_path: Path) -> None:
    comfyui(update(), tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    gone = next(key for key in tensors if key.endswith(".alpha"))
    save_file({key: value for key, value in tensors.items() if key != gone}, tmp_path / "y.safetensors")
    with pytest.raises(AdapterError, match="none for " + gone.removeprefix("diffusion_model.").removesuffix(".alpha")):
        read_lora(tmp_path / "y.safetensors")
