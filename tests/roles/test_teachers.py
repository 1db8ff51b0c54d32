"""The teachers that a plan weighs, and their predictions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewstep.flow.guidance import Guidance
from fewstep.flow.guided_velocity import guided
from fewstep.flow.rng import NamedRNG
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.network import Network
from fewstep.roles.offloaded import OffloadedNetwork
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.roles import Roles
from fewstep.roles.step_index import StepIndex
from fewstep.roles.teacher_plan import (
    TeacherPlan,
)
from fewstep.roles.teachers import Teachers
from fewstep.runtime.errors import ModelError
from tests.train.tiny_model import batch, normal, tiny

T = torch.tensor([0.7, 0.3, 0.5])


def lora(path: Path, seed: str) -> str:
    tensors = {}
    for block in range(2):
        module = f"transformer.transformer_blocks.{block}.attn.to_v"
        tensors[f"{module}.lora_A.weight"] = normal(2, 64, name=f"{seed}a{block}")
        tensors[f"{module}.lora_B.weight"] = 0.3 * normal(64, 2, name=f"{seed}b{block}")
    save_file(tensors, path)
    return str(path)


def roles_with(tmp_path: Path, **given: Any) -> Roles:
    names = ("style", "faces")
    named = {name: {"adapter": lora(tmp_path / f"{name}.safetensors", name)} for name in names}
    named["faces"]["categories"] = ["portrait"]
    teachers = TeachersSpec.model_validate({"preset": "constant", "ramp": 0, "named": named, "lam_max": 0.25, **given})
    return build_roles(tiny(), RolesSpec(StudentPlan(), CriticPlan(), teachers, 100), NamedRNG(0))


def network_of(roles: Roles, name: str) -> Network:
    return roles.teachers.teachers[name].network


def test_v_real_is_the_weighted_sum_of_guided_teachers(tmp_path: Path) -> None:
    """Each guided by itself, with the norm kept; samples that a teacher has no weight on do not reach it."""
    guidance = {"t2i": {"scale": 3.0, "keep_norm": True, "negative": "a blurred picture"}}
    roles = roles_with(tmp_path, base={"guidance": guidance})
    teacher_batch, z = batch(0, size=3, task="t2i"), normal(3, 4, 8)
    v = roles.teachers.velocity(z, T, teacher_batch, StepIndex(0, 0))
    with torch.no_grad():
        away = teacher_batch.negatives["a blurred picture"]
        branches = [network_of(roles, "base").velocity(z, T, cond) for cond in (teacher_batch.cond, away)]
        base = guided(*branches, Guidance(3.0, True, "a blurred picture"))
        style, faces = (network_of(roles, name).velocity(z, T, teacher_batch.cond) for name in ("style", "faces"))
    faced = torch.tensor([category == "portrait" for category in teacher_batch.categories])[:, None, None]
    assert faced.any()
    assert not faced.all()
    expected = torch.where(faced, 0.5 * base + 0.25 * style + 0.25 * faces, 0.75 * base + 0.25 * style)
    torch.testing.assert_close(v, expected, rtol=1e-4, atol=1e-5)
    assert (style - base).abs().max() > 1e-2
    assert v.dtype == torch.float32
    assert not v.requires_grad


@pytest.mark.parametrize("i", [0, 1])
def test_branches_of_equal_length_share_a_forward(tmp_path: Path, i: int) -> None:
    """Of unequal length they must not: padding would move the target's rotary position."""
    guidance = {task: {"scale": 2.0} for task in ("t2i", "edit")}
    roles = roles_with(tmp_path, base={"guidance": guidance}, preset="base-only")
    teacher_batch, z = batch(i, size=3), normal(3, 4, 8)
    empty = teacher_batch.negatives[""]
    for away, forwards in ((teacher_batch.cond, 1), (empty, 2)):
        before = roles.teachers.forwards["base"]
        same = type(teacher_batch)(**{**vars(teacher_batch), "negatives": {"": away}})
        v = roles.teachers.velocity(z, T, same, StepIndex(0, 0))
        assert roles.teachers.forwards["base"] - before == forwards
        with torch.no_grad():
            branches = [network_of(roles, "base").velocity(z, T, cond) for cond in (teacher_batch.cond, away)]
        torch.testing.assert_close(v, guided(*branches, Guidance(2.0)), rtol=1e-4, atol=1e-5)


def test_weight_zero_costs_no_forward(tmp_path: Path) -> None:
    roles = roles_with(tmp_path, preset="last-step-only", ramp=0.2)
    teacher_batch, z = batch(0, size=3), normal(3, 4, 8)
    asked = []
    for k, iteration in ((0, 50), (3, 0), (3, 50)):
        before = roles.teachers.forwards.copy()
        roles.teachers.velocity(z, T, teacher_batch, StepIndex(iteration, k))
        asked.append(dict(roles.teachers.forwards - before))
    assert asked == [{"base": 1}, {"base": 1}, {"base": 1, "style": 1, "faces": 1}]


def test_specialised_alone_does_not_run_the_base(tmp_path: Path) -> None:
    named = {"style": {"adapter": lora(tmp_path / "x.safetensors", "x")}}
    roles = roles_with(tmp_path, preset="specialised-alone", named=named)
    roles.teachers.velocity(normal(3, 4, 8), T, batch(0, size=3), StepIndex(0, 0))
    assert roles.teachers.forwards == {"style": 1}


def test_teachers_are_not_loaded_for_nothing(tmp_path: Path) -> None:
    roles = roles_with(tmp_path, preset="base-only", named={"style": {"adapter": str(tmp_path / "absent")}})
    assert set(roles.teachers.teachers) == {"base"}


def test_unguided_teachers_need_no_negative_prompt(tmp_path: Path) -> None:
    teacher_batch = batch(0, size=3)
    without_negatives = type(teacher_batch)(**{**vars(teacher_batch), "negatives": {}})
    assert (
        roles_with(tmp_path).teachers.velocity(normal(3, 4, 8), T, without_negatives, StepIndex(0, 0)).isfinite().all()
    )


def test_a_further_model_teaches_with_weights_of_its_own(tmp_path: Path) -> None:
    other = tiny()
    with torch.no_grad():
        other.transformer.proj_out.weight.neg_()
    named = {"edits": {"model": saved(other, tmp_path / "model"), "tasks": ["edit"], "anchor": True}}
    roles = roles_with(tmp_path, preset="base-only", named=named)
    z = normal(3, 4, 8)
    for i, sign in ((0, 1), (1, -1)):
        teacher_batch = batch(i, size=3)
        v = roles.teachers.velocity(z, T, teacher_batch, StepIndex(0, 0))
        with torch.no_grad():
            torch.testing.assert_close(v, sign * network_of(roles, "base").velocity(z, T, teacher_batch.cond))


def test_a_further_model_of_another_size_is_refused(tmp_path: Path) -> None:
    base = tiny()
    config = {**base.transformer.config, "num_layers": 1}
    folder = tmp_path / "model"
    type(base.transformer).from_config(config).save_pretrained(folder / "transformer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "model_index.json").write_text('{"_class_name": "QwenImage21Pipeline"}')
    with pytest.raises(ModelError, match="other weights than the model"):
        roles_with(tmp_path, preset="constant", named={"x": {"model": str(folder)}})


# ---- several kinds of samples in one batch


def roles_of_every_kind(tmp_path: Path) -> Roles:
    """Weights of every kind at once: a weighted LoRA for all, a guided one for portraits, an anchor model for signs."""
    other = tiny()
    with torch.no_grad():
        other.transformer.proj_out.weight.mul_(0.7)
    named: dict[str, Any] = {
        "style": {"adapter": lora(tmp_path / "style.safetensors", "style")},
        "faces": {
            "adapter": lora(tmp_path / "faces.safetensors", "faces"),
            "categories": ["portrait"],
            "guidance": {"t2i": {"scale": 2.0, "keep_norm": True}},
        },
        "signs": {"model": saved(other, tmp_path / "signs"), "categories": ["sign"], "anchor": True},
    }
    teachers = {"preset": "step-wise", "ramp": 0, "named": named, "lam_max": {"style": 0.3, "faces": 0.5}}
    spec_ = TeachersSpec.model_validate(teachers)
    return build_roles(tiny(), RolesSpec(StudentPlan(), CriticPlan(), spec_, 100), NamedRNG(0))


def saved(backbone: Any, folder: Path) -> str:
    backbone.transformer.save_pretrained(folder / "transformer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    (folder / "model_index.json").write_text('{"_class_name": "QwenImage21Pipeline"}')
    return str(folder)


@pytest.mark.parametrize("k", [0, 2, 3])
def test_a_batch_of_all_kinds_equals_one_sample_at_a_time(tmp_path: Path, k: int) -> None:
    roles, teacher_batch = roles_of_every_kind(tmp_path), batch(0, size=6, task="t2i")
    assert set(teacher_batch.categories) == {"landscape", "portrait", "sign"}
    z, t = normal(6, 4, 8), torch.linspace(0.1, 0.9, 6)
    together = roles.teachers.velocity(z, t, teacher_batch, StepIndex(50, k))
    for b in range(6):
        negatives = {prompt: cond.rows([b]) for prompt, cond in teacher_batch.negatives.items()}
        facts = {
            "cond": teacher_batch.cond.rows([b]),
            "negatives": negatives,
            "categories": teacher_batch.categories[b : b + 1],
        }
        one = type(teacher_batch)(**{**vars(teacher_batch), **facts})
        alone = roles.teachers.velocity(z[b : b + 1], t[b : b + 1], one, StepIndex(50, k))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_teacher_runs_for_its_samples_alone(tmp_path: Path) -> None:
    roles, teacher_batch = roles_of_every_kind(tmp_path), batch(0, size=6, task="t2i")
    prediction = roles.teachers.prediction(normal(6, 4, 8), torch.full((6,), 0.5), teacher_batch, StepIndex(50, 3))
    asked = {
        name: [teacher_batch.categories[row] for row in by_teacher.rows]
        for name, by_teacher in prediction.by_teacher.items()
    }
    assert set(asked["base"]) == {"landscape", "portrait"}
    assert asked["faces"] == ["portrait"] * 2
    assert asked["signs"] == ["sign"] * 2
    assert len(asked["style"]) == 6
    assert prediction.common_rows("style") == [row for row, c in enumerate(teacher_batch.categories) if c != "sign"]
    assert prediction.common_rows("signs") == []


def test_the_base_may_run_only_to_compare(tmp_path: Path) -> None:
    named = {"style": {"adapter": lora(tmp_path / "x.safetensors", "x")}}
    roles = roles_with(tmp_path, preset="specialised-alone", named=named)
    z, teacher_batch = normal(3, 4, 8), batch(0, size=3)
    plain, both = (
        roles.teachers.prediction(z, T, teacher_batch, StepIndex(0, 0), include_base=too) for too in (False, True)
    )
    torch.testing.assert_close(plain.v_real_BND, both.v_real_BND, rtol=0, atol=0)
    assert (plain.common_rows("style"), both.common_rows("style")) == ([], [0, 1, 2])
    assert roles.teachers.forwards == {"style": 2, "base": 1}


def test_what_guidance_adds_comes_apart_from_the_teachers_and_together_again(tmp_path: Path) -> None:
    roles, teacher_batch = roles_of_every_kind(tmp_path), batch(0, size=6, task="t2i")
    z, t = normal(6, 4, 8), torch.linspace(0.1, 0.9, 6)
    whole, plain = (
        roles.teachers.prediction(z, t, teacher_batch, StepIndex(50, 3), unguided=u).v_real_BND for u in (False, True)
    )
    before = roles.teachers.forwards.copy()
    added, v_cond = roles.teachers.guidance_term(z, t, teacher_batch, StepIndex(50, 3))
    assert set(roles.teachers.forwards - before) == {"faces"}
    torch.testing.assert_close(plain + added, whole)
    faced = torch.tensor([category == "portrait" for category in teacher_batch.categories])
    assert added[faced].abs().amax(dim=(1, 2)).gt(1e-3).all()
    assert not added[~faced].any()
    assert not v_cond[~faced].any()
    with torch.no_grad():
        alone = network_of(roles, "faces").velocity(
            z[faced], t[faced], teacher_batch.cond.rows(faced.nonzero().flatten())
        )
    torch.testing.assert_close(v_cond[faced], alone)


def test_adaptive_begins_with_little_trust_and_no_ramp(tmp_path: Path) -> None:
    roles = roles_with(tmp_path, preset="adaptive", ramp=0.2, adaptive={"start": 0.4})
    assert roles.teachers.trust.shares == {"style": 0.4, "faces": 0.4}
    assert roles.teachers.plan.strength(0, 100) == 1.0
    assert roles_with(tmp_path).teachers.trust.shares == {"style": 1.0, "faces": 1.0}


# ---- weights that wait on the CPU


def test_an_offloaded_teacher_answers_as_a_resident_one(tmp_path: Path) -> None:
    other = tiny()
    with torch.no_grad():
        other.transformer.proj_out.weight.neg_()
    folder, z, teacher_batch = saved(other, tmp_path / "model"), normal(3, 4, 8), batch(0, size=3)
    answers = []
    for place in ("resident", "offloaded"):
        named = {"x": {"model": folder, "place": place, "guidance": {"t2i": {"scale": 2.0}}}}
        roles = roles_with(tmp_path, preset="specialised-alone", named=named)
        answers += [roles.teachers.velocity(z, T, teacher_batch, StepIndex(0, 0)) for _ in range(2)]
    for prediction in answers[1:]:
        torch.testing.assert_close(prediction, answers[0], rtol=0, atol=0)


def test_nested_uses_of_an_offloaded_teacher_move_once_and_an_error_sends_it_home() -> None:
    network = OffloadedNetwork("x", tiny(), tiny().transformer, "fp32", torch.device("cpu"))
    homes = [home.data_ptr() for _, home in network._homes]
    with pytest.raises(ZeroDivisionError), network.active(), network.active():
        _ = network._depth / 0
    with network.active():
        with network.active():
            pass
        assert network._depth == 1  # still on its device
    assert network._depth == 0
    assert [tensor.data_ptr() for tensor, _ in network._homes] == homes
    assert not network.parameters()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_an_offloaded_teacher_holds_memory_only_while_it_runs() -> None:
    device = torch.device("cuda")
    network = OffloadedNetwork("x", tiny(), tiny().transformer, "fp32", device)
    before = torch.cuda.memory_allocated()
    with network.active():
        assert torch.cuda.memory_allocated() > before
        assert next(network.transformer.parameters()).device.type == "cuda"
    assert torch.cuda.memory_allocated() == before


def test_teachers_know_only_their_plan() -> None:
    with pytest.raises(AssertionError):
        Teachers(TeacherPlan(), {"unknown": None}, 1)  # type: ignore[dict-item]
