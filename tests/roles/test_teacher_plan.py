"""The teacher plan as numbers."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fewstep.roles.plan import (
    TeachersSpec,
)
from fewstep.roles.teacher_plan import (
    TeacherPlan,
    TeacherSchedule,
    preset_rows,
    teacher_plan,
)
from fewstep.roles.teacher_weights import teacher_weights
from fewstep.runtime.errors import RecipeError

K = 4


def spec(names: tuple[str, ...] = ("style",), **given: Any) -> TeachersSpec:
    named = {name: {"adapter": f"{name}.safetensors"} for name in names}
    return TeachersSpec.model_validate({"preset": "step-wise", "named": named, **given})


def lam(plan: TeacherPlan, k: int, iteration: int = 100, task: str = "t2i", category: str = "x") -> list[float]:
    return teacher_weights(plan, k, iteration, 100, [task], [category])[:, 0].tolist()  # type: ignore[list-item]


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
    """Ramp over the first 20 % of the iterations x lam_max 0.5 x [0, 0, 0.5, 1]; the base takes the rest."""
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


@pytest.mark.parametrize("given_", [{"lam_max": 1.2}, {"lam_max": {"a": -1}}, {"rows": [0, 0, -0.1, 1]}])
def test_weights_lie_between_0_and_1_whoever_has_them(given_: dict[str, Any]) -> None:
    for names in (("style",), ()):
        with pytest.raises(ValidationError, match=r"lie in \[0, 1\]"):
            spec(**{"names": names, **given_})


@pytest.mark.parametrize(
    ("given_", "words"),
    [
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


def test_trust_scales_a_teachers_weights_and_the_base_takes_the_rest() -> None:
    plan = teacher_plan(spec(ramp=0.0), K)
    lam_MB = teacher_weights(plan, 3, 0, 100, ["t2i"], ["x"], {"style": 0.5})
    assert lam_MB[:, 0].tolist() == [0.75, 0.25]
