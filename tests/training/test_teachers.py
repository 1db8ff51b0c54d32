"""The teacher plan as numbers, and the teachers it weighs."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from parts import batch, normal, tiny
from safetensors.torch import save_file

from fewstep.flow.guidance import Guidance
from fewstep.flow.guided_velocity import guided
from fewstep.flow.rng import NamedRNG
from fewstep.roles.build import Roles, build_roles
from fewstep.roles.network import Network
from fewstep.roles.offloaded import OffloadedNetwork
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.teacher_plan import (
    TeacherPlan,
    TeacherSchedule,
    preset_rows,
    teacher_plan,
)
from fewstep.roles.teacher_weights import teacher_weights
from fewstep.roles.teachers import Teachers
from fewstep.runtime.errors import ModelError, RecipeError

K = 4
T = torch.tensor([0.7, 0.3, 0.5])


def spec(names: tuple[str, ...] = ("style",), **given: Any) -> TeachersSpec:
    named = {name: {"adapter": f"{name}.safetensors"} for name in names}
    return TeachersSpec.model_validate({"preset": "step-wise", "named": named, **given})


def lam(plan: TeacherPlan, k: int, iteration: int = 100, task: str = "t2i", category: str = "x") -> list[float]:
    return teacher_weights(plan, k, iteration, 100, [task], [category])[:, 0].tolist()  # type: ignore[list-item]


# ---- the plan


@pytest.mark.parametrize(
    ("preset", "row"),
    [
        ("base-only", [0, 0, 0, 0]),
        ("step-wise", [0, 0, 0.5, 1]),
        ("last-step-only", [0, 0, 0, 1]),
        ("adaptive", [0, 0, 0.5, 1]),
        ("constant", [1, 1, 1, 1]),
        ("specialised-alone", [1, 1, 1, 1]),
    ],
)
def test_presets_at_four_steps(preset: Any, row: list[float]) -> None:
    assert preset_rows(preset, K) == pytest.approx(row)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_step_wise_at_other_numbers_of_steps_rises_from_nothing_to_all(steps: int) -> None:
    row = preset_rows("step-wise", steps)
    assert row[-1] == 1
    assert all(a <= b for a, b in pairwise(row))
    assert all(value == 0 for value in row[: steps // 2])


def test_the_default_of_the_design() -> None:
    """Ramp over the first 20 % of the iterations x lam_max .5 x [0, 0, .5, 1]; the base takes the rest."""
    plan = teacher_plan(spec(), K)
    assert [lam(plan, k) for k in range(K)] == [[1, 0], [1, 0], [0.75, 0.25], [0.5, 0.5]]
    assert lam(plan, 3, 0) == [1, 0]
    assert lam(plan, 3, 10) == [0.75, 0.25]
    assert lam(plan, 3, 20) == lam(plan, 3, 99) == [0.5, 0.5]


def test_no_ramp_is_no_ramp() -> None:
    assert lam(teacher_plan(spec(ramp=0.0), K), 3, 0) == [0.5, 0.5]


def test_rows_and_tops_by_name() -> None:
    rows = {"style": [0, 0, 0, 1], "text": [0.5, 0, 0, 0]}
    plan = teacher_plan(spec(("style", "text"), rows=rows, lam_max={"style": 0.4, "text": 0.2}), K)
    assert plan.names == ("base", "style", "text")
    assert lam(plan, 0) == pytest.approx([0.9, 0, 0.1])
    assert lam(plan, 3) == pytest.approx([0.6, 0.4, 0])


def test_conditions_by_task_and_category() -> None:
    named = {
        "faces": {"adapter": "a", "tasks": ["t2i"], "categories": ["portrait"]},
        "edits": {"adapter": "b", "tasks": ["edit"]},
    }
    plan = teacher_plan(spec(preset="constant", named=named, ramp=0), K)
    lam_MB = teacher_weights(plan, 0, 0, 100, ["t2i", "t2i", "edit"], ["portrait", "landscape", "object"])
    assert lam_MB.tolist() == [[0.5, 1, 0.5], [0.5, 0, 0], [0, 0, 0.5]]
    assert lam_MB.dtype == torch.float32


def test_an_anchor_takes_the_rest_on_its_samples() -> None:
    """Two released models, one for each task: the base of text to image, an anchor for edits, a LoRA over either."""
    named = {"edit-model": {"model": "m", "tasks": ["edit"], "anchor": True}, "style": {"adapter": "a"}}
    plan = teacher_plan(spec(preset="constant", named=named, ramp=0, lam_max=0.25), K)
    assert lam(plan, 0, task="edit") == [0, 0.75, 0.25]
    assert lam(plan, 0, task="t2i") == [0.75, 0, 0.25]


def test_specialised_alone_is_the_whole_weight_at_once() -> None:
    plan = teacher_plan(spec(preset="specialised-alone"), K)
    assert [lam(plan, k, 0) for k in range(K)] == [[0, 1]] * K


@given(
    columns=st.lists(st.tuples(st.lists(st.floats(0, 1), min_size=K, max_size=K), st.booleans()), max_size=3),
    ramp=st.floats(0, 1),
    iteration=st.integers(0, 100),
    k=st.integers(0, K - 1),
)
def test_rows_sum_to_one_whatever_is_given(
    columns: list[tuple[list[float], bool]], ramp: float, iteration: int, k: int
) -> None:
    share = 0.99 / max(1, len(columns))
    made = [
        TeacherSchedule(f"t{m}", tuple(share * w for w in row), None, ("portrait",) if narrow else None)
        for m, (row, narrow) in enumerate(columns)
    ]
    lam_MB = teacher_weights(TeacherPlan(tuple(made), ramp), k, iteration, 100, ["t2i", "edit"], ["portrait", "other"])
    assert ((lam_MB >= 0) & (lam_MB <= 1)).all()
    torch.testing.assert_close(lam_MB.sum(0), torch.ones(2))


def test_teachers_without_any_weight_are_not_used() -> None:
    assert teacher_plan(spec(("a", "b"), lam_max={"a": 0, "b": 0.5}), K).used == ("base", "b")
    assert teacher_plan(spec(preset="base-only"), K).used == ("base",)


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"lam_max": 1.2}, r"lie in \[0, 1\]"),
        ({"rows": [0, 0, -0.1, 1]}, r"lie in \[0, 1\]"),
        ({"rows": [0, 0, 1]}, "3 numbers for 'style' but the student takes 4 steps"),
        ({"rows": {"stile": [0, 0, 0, 1]}}, "stile, unknown here.*style"),
        ({"lam_max": {}}, "leaves out style"),
        ({"preset": "constant", "lam_max": 1.0}, "student step 0 give the base teacher nothing.*specialised-alone"),
        ({"names": ("a", "b", "c"), "preset": "constant"}, "step 0 sum to 1.5 for t2i samples: a, b, c"),
        ({"names": ("a", "b"), "preset": "specialised-alone"}, "sum to 2"),
        ({"names": ()}, "needs a specialised teacher"),
        ({"preset": "base-only", "rows": [0, 0, 0, 1]}, "fixes all weights"),
        ({"preset": "specialised-alone", "rows": [0, 0, 0, 1]}, "fixes all weights"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        teacher_plan(spec(**given_), K)


def test_teachers_of_different_samples_may_weigh_much() -> None:
    named = {name: {"adapter": "a", "categories": [name]} for name in ("portrait", "sign")}
    assert teacher_plan(spec(preset="constant", named=named, lam_max=0.9), K).names == ("base", "portrait", "sign")


def test_two_anchors_for_one_sample_are_refused() -> None:
    named = {name: {"model": "m", "anchor": True, "tasks": ["edit"]} for name in ("a", "b")}
    with pytest.raises(RecipeError, match="edit samples have more than one anchor: a, b"):
        teacher_plan(spec(preset="base-only", named=named), K)


@pytest.mark.parametrize("teacher", [{}, {"adapter": "a", "model": "m"}])
def test_a_teacher_has_one_origin(teacher: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either an adapter or a model"):
        TeachersSpec.model_validate({"named": {"x": teacher}})


@pytest.mark.parametrize("name", ["base", "a.b", ""])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        TeachersSpec.model_validate({"named": {name: {"adapter": "a"}}})


# ---- the teachers


def lora(path: Path, seed: str) -> str:
    tensors = {}
    for block in range(2):
        module = f"transformer.transformer_blocks.{block}.attn.to_v"
        tensors[f"{module}.lora_A.weight"] = normal(2, 64, name=f"{seed}a{block}")
        tensors[f"{module}.lora_B.weight"] = 0.3 * normal(64, 2, name=f"{seed}b{block}")
    save_file(tensors, path)
    return str(path)


def cast_with(tmp_path: Path, **given: Any) -> Roles:
    names = ("style", "faces")
    named = {name: {"adapter": lora(tmp_path / f"{name}.safetensors", name)} for name in names}
    named["faces"]["categories"] = ["portrait"]
    teachers = TeachersSpec.model_validate({"preset": "constant", "ramp": 0, "named": named, "lam_max": 0.25, **given})
    return build_roles(tiny(), StudentPlan(), CriticPlan(), teachers, iterations=100, rng=NamedRNG(0))


def network_of(roles: Roles, name: str) -> Network:
    return roles.teachers.teachers[name].network


def test_v_real_is_the_weighted_sum_of_guided_teachers(tmp_path: Path) -> None:
    """Each guided by itself, the kept norm above all; samples that a teacher has no weight on do not reach it."""
    guidance = {"t2i": {"scale": 3.0, "keep_norm": True, "negative": "a blurred picture"}}
    roles = cast_with(tmp_path, base={"guidance": guidance})
    lesson, z = batch(0, size=3, task="t2i"), normal(3, 4, 8)
    v = roles.teachers.velocity(z, T, lesson, 0, 0)
    with torch.no_grad():
        away = lesson.negatives["a blurred picture"]
        branches = [network_of(roles, "base").velocity(z, T, cond) for cond in (lesson.cond, away)]
        base = guided(*branches, Guidance(3.0, True, "a blurred picture"))
        style, faces = (network_of(roles, name).velocity(z, T, lesson.cond) for name in ("style", "faces"))
    faced = torch.tensor([category == "portrait" for category in lesson.categories])[:, None, None]
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
    roles = cast_with(tmp_path, base={"guidance": guidance}, preset="base-only")
    lesson, z = batch(i, size=3), normal(3, 4, 8)
    empty = lesson.negatives[""]
    for away, forwards in ((lesson.cond, 1), (empty, 2)):
        before = roles.teachers.forwards["base"]
        same = type(lesson)(**{**vars(lesson), "negatives": {"": away}})
        v = roles.teachers.velocity(z, T, same, 0, 0)
        assert roles.teachers.forwards["base"] - before == forwards
        with torch.no_grad():
            branches = [network_of(roles, "base").velocity(z, T, cond) for cond in (lesson.cond, away)]
        torch.testing.assert_close(v, guided(*branches, Guidance(2.0)), rtol=1e-4, atol=1e-5)


def test_weight_zero_costs_no_forward(tmp_path: Path) -> None:
    roles = cast_with(tmp_path, preset="last-step-only", ramp=0.2)
    lesson, z = batch(0, size=3), normal(3, 4, 8)
    asked = []
    for k, iteration in ((0, 50), (3, 0), (3, 50)):
        before = roles.teachers.forwards.copy()
        roles.teachers.velocity(z, T, lesson, k, iteration)
        asked.append(dict(roles.teachers.forwards - before))
    assert asked == [{"base": 1}, {"base": 1}, {"base": 1, "style": 1, "faces": 1}]


def test_specialised_alone_does_not_run_the_base(tmp_path: Path) -> None:
    named = {"style": {"adapter": lora(tmp_path / "x.safetensors", "x")}}
    roles = cast_with(tmp_path, preset="specialised-alone", named=named)
    roles.teachers.velocity(normal(3, 4, 8), T, batch(0, size=3), 0, 0)
    assert roles.teachers.forwards == {"style": 1}


def test_teachers_are_not_loaded_for_nothing(tmp_path: Path) -> None:
    roles = cast_with(tmp_path, preset="base-only", named={"style": {"adapter": str(tmp_path / "absent")}})
    assert set(roles.teachers.teachers) == {"base"}


def test_unguided_teachers_need_no_negative_prompt(tmp_path: Path) -> None:
    lesson = batch(0, size=3)
    bare = type(lesson)(**{**vars(lesson), "negatives": {}})
    assert cast_with(tmp_path).teachers.velocity(normal(3, 4, 8), T, bare, 0, 0).isfinite().all()


def test_a_further_model_teaches_with_weights_of_its_own(tmp_path: Path) -> None:
    other = tiny()
    with torch.no_grad():
        other.transformer.proj_out.weight.neg_()
    named = {"edits": {"model": saved(other, tmp_path / "model"), "tasks": ["edit"], "anchor": True}}
    roles = cast_with(tmp_path, preset="base-only", named=named)
    z = normal(3, 4, 8)
    for i, sign in ((0, 1), (1, -1)):
        lesson = batch(i, size=3)
        v = roles.teachers.velocity(z, T, lesson, 0, 0)
        with torch.no_grad():
            torch.testing.assert_close(v, sign * network_of(roles, "base").velocity(z, T, lesson.cond))


def test_a_further_model_of_another_size_is_refused(tmp_path: Path) -> None:
    base = tiny()
    config = {**base.transformer.config, "num_layers": 1}
    folder = tmp_path / "model"
    type(base.transformer).from_config(config).save_pretrained(folder / "transformer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "model_index.json").write_text('{"_class_name": "QwenImage21Pipeline"}')
    with pytest.raises(ModelError, match="other weights than the model"):
        cast_with(tmp_path, preset="constant", named={"x": {"model": str(folder)}})


# ---- several kinds of samples in one batch


def mixed_cast(tmp_path: Path) -> Roles:
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
    return build_roles(tiny(), StudentPlan(), CriticPlan(), spec_, iterations=100, rng=NamedRNG(0))


def saved(backbone: Any, folder: Path) -> str:
    backbone.transformer.save_pretrained(folder / "transformer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"shift": 1.0}')
    (folder / "model_index.json").write_text('{"_class_name": "QwenImage21Pipeline"}')
    return str(folder)


@pytest.mark.parametrize("k", [0, 2, 3])
def test_a_batch_of_all_kinds_equals_one_sample_at_a_time(tmp_path: Path, k: int) -> None:
    roles, lesson = mixed_cast(tmp_path), batch(0, size=6, task="t2i")
    assert set(lesson.categories) == {"landscape", "portrait", "sign"}
    z, t = normal(6, 4, 8), torch.linspace(0.1, 0.9, 6)
    together = roles.teachers.velocity(z, t, lesson, k, 50)
    for b in range(6):
        negatives = {prompt: cond.rows([b]) for prompt, cond in lesson.negatives.items()}
        facts = {"cond": lesson.cond.rows([b]), "negatives": negatives, "categories": lesson.categories[b : b + 1]}
        one = type(lesson)(**{**vars(lesson), **facts})
        alone = roles.teachers.velocity(z[b : b + 1], t[b : b + 1], one, k, 50)
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_teacher_runs_for_its_samples_alone(tmp_path: Path) -> None:
    roles, lesson = mixed_cast(tmp_path), batch(0, size=6, task="t2i")
    prediction = roles.teachers.prediction(normal(6, 4, 8), torch.full((6,), 0.5), lesson, 3, 50)
    asked = {
        name: [lesson.categories[row] for row in by_teacher.rows] for name, by_teacher in prediction.by_teacher.items()
    }
    assert set(asked["base"]) == {"landscape", "portrait"}
    assert asked["faces"] == ["portrait"] * 2
    assert asked["signs"] == ["sign"] * 2
    assert len(asked["style"]) == 6
    assert prediction.common_rows("style") == [row for row, c in enumerate(lesson.categories) if c != "sign"]
    assert prediction.common_rows("signs") == []


def test_the_base_may_run_only_to_compare(tmp_path: Path) -> None:
    named = {"style": {"adapter": lora(tmp_path / "x.safetensors", "x")}}
    roles = cast_with(tmp_path, preset="specialised-alone", named=named)
    z, lesson = normal(3, 4, 8), batch(0, size=3)
    plain, both = (roles.teachers.prediction(z, T, lesson, 0, 0, include_base=too) for too in (False, True))
    torch.testing.assert_close(plain.v_real_BND, both.v_real_BND, rtol=0, atol=0)
    assert (plain.common_rows("style"), both.common_rows("style")) == ([], [0, 1, 2])
    assert roles.teachers.forwards == {"style": 2, "base": 1}


def test_what_guidance_adds_comes_apart_from_the_teachers_and_together_again(tmp_path: Path) -> None:
    roles, lesson = mixed_cast(tmp_path), batch(0, size=6, task="t2i")
    z, t = normal(6, 4, 8), torch.linspace(0.1, 0.9, 6)
    whole, plain = (roles.teachers.prediction(z, t, lesson, 3, 50, unguided=u).v_real_BND for u in (False, True))
    before = roles.teachers.forwards.copy()
    added, v_cond = roles.teachers.guidance_term(z, t, lesson, 3, 50)
    assert set(roles.teachers.forwards - before) == {"faces"}
    torch.testing.assert_close(plain + added, whole)
    faced = torch.tensor([category == "portrait" for category in lesson.categories])
    assert added[faced].abs().amax(dim=(1, 2)).gt(1e-3).all()
    assert not added[~faced].any()
    assert not v_cond[~faced].any()
    with torch.no_grad():
        alone = network_of(roles, "faces").velocity(z[faced], t[faced], lesson.cond.rows(faced.nonzero().flatten()))
    torch.testing.assert_close(v_cond[faced], alone)


def test_trust_scales_a_teachers_weights_and_the_base_takes_the_rest() -> None:
    plan = teacher_plan(spec(ramp=0.0), K)
    lam_MB = teacher_weights(plan, 3, 0, 100, ["t2i"], ["x"], {"style": 0.5})
    assert lam_MB[:, 0].tolist() == [0.75, 0.25]


def test_adaptive_begins_with_little_trust_and_no_ramp(tmp_path: Path) -> None:
    roles = cast_with(tmp_path, preset="adaptive", ramp=0.2, adaptive={"start": 0.4})
    assert roles.teachers.trust.shares == {"style": 0.4, "faces": 0.4}
    assert roles.teachers.plan.strength(0, 100) == 1.0
    assert cast_with(tmp_path).teachers.trust.shares == {"style": 1.0, "faces": 1.0}


# ---- weights that wait on the CPU


def test_an_offloaded_teacher_answers_as_a_resident_one(tmp_path: Path) -> None:
    other = tiny()
    with torch.no_grad():
        other.transformer.proj_out.weight.neg_()
    folder, z, lesson = saved(other, tmp_path / "model"), normal(3, 4, 8), batch(0, size=3)
    answers = []
    for place in ("resident", "offloaded"):
        named = {"x": {"model": folder, "place": place, "guidance": {"t2i": {"scale": 2.0}}}}
        roles = cast_with(tmp_path, preset="specialised-alone", named=named)
        answers += [roles.teachers.velocity(z, T, lesson, 0, 0) for _ in range(2)]
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
        Teachers(TeacherPlan(), {"stranger": None}, 1)  # type: ignore[dict-item]
