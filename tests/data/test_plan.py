"""The sections `tasks` and `data`: schedules and presets, what they come to, and how a slip in them is refused."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from fewstep.data.cases import Case
from fewstep.data.declared_shares import declared_categories, declared_tasks
from fewstep.data.mixture import Ratio
from fewstep.data.order import BatchOrder
from fewstep.data.plan import PRESETS, DataPlan
from fewstep.data.sources import build_composition
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.errors import RecipeError

SCHEDULE = "tasks=[{until: 20, t2i: 9, edit: 1}, {t2i: 5, edit: 5}]"


def chosen(*overrides: str) -> Recipe:
    return load_recipe("pocket", overrides)


def refusal(*overrides: str) -> str:
    with pytest.raises(RecipeError) as refused:
        chosen(*overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_ratio_may_be_set_key_by_key_or_as_a_schedule() -> None:
    assert chosen("tasks.t2i=9", "tasks.edit=1").mixture.values == (Ratio(9, 1),)
    recipe = chosen(SCHEDULE)
    assert (recipe.mixture.values, recipe.mixture.ends) == ((Ratio(9, 1), Ratio(5, 5)), (20,))
    assert chosen(SCHEDULE, "tasks.1.t2i=3").mixture.values[1] == Ratio(3, 5)


def test_a_schedule_is_written_and_read_back(tmp_path: Path) -> None:
    weight = "data.t2i=[{source: 'pocket:t2i:9', weight: [{until: 5, weight: 2}, {weight: 0}]}, {source: b.txt}]"
    shares = "data.category_weights.edit=[{until: 5, weights: {text: 1}}, {weights: {text: 1, scene: 2}}]"
    recipe = chosen(SCHEDULE, weight, shares)
    (tmp_path / "again.yaml").write_text(recipe.resolved_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert recipe.data.source_weights("t2i").values == ((2, 1), (0, 1))
    assert recipe.fingerprint() != chosen(weight, shares).fingerprint()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tasks=[]", "tasks is an empty schedule"),
        ("tasks=[{until: 20, t2i: 9, edit: 1}, {until: 10, t2i: 1, edit: 1}, {t2i: 1, edit: 1}]", "runs forwards"),
        ("tasks=[{t2i: 9, edit: 1}, {t2i: 1, edit: 1}]", "tasks.0 has no `until`"),
        ("tasks=[{until: 96, t2i: 9, edit: 1}, {t2i: 1, edit: 1}]", "tasks.0.until is 96, but run.iterations is 96"),
        ("tasks=[{until: 5, t2i: 0, edit: 0}, {t2i: 1, edit: 1}]", "tasks 0:0 leave nothing to learn"),
        ("tasks=[{until: 5, t2i: 2}, {t2i: 1, edit: 1}]", "tasks.0.edit is missing"),
        ("tasks=[{untill: 5, t2i: 2, edit: 1}]", "did you mean tasks.0.until?"),
        ("tasks=[{until: soon, t2i: 2, edit: 1}]", "tasks.0.until should be a whole number"),
        ("data.category_weights.t2i=[{until: 5, weights: {text: 0}}, {weights: {text: 1}}]", "t2i sum to 0"),
        ("data.category_weights.t2i=[{until: 5, weights: {}}, {weights: {text: 1}}]", "at least 1"),
        ("data.category_weights.t2i=[{until: 9, weights: {a: 1}}, {until: 3, weights: {a: 1}}, {weights: {a: 1}}]",)
        * 2,
        ("data.t2i.0.weight=[{until: 5, weight: 0}, {weight: 1}]", "weights of the sources sum to 0"),
        ("data.t2i.0.weight=[{until: 5, weight: 1}, {weight: 0}]", "from iteration 5 on sum to 0"),
        ("data.t2i.0.weight=[{until: 999, weight: 1}, {weight: 1}]", "data.t2i.0.weight.0.until is 999"),
        ("data.preset=E6", "data.preset should be 'E1', 'E2', 'E3', 'E4' or 'E5', not 'E6'"),
    ],
)
def test_slips_are_refused_in_one_line(override: str, expected: str) -> None:
    assert (expected if expected != override else "runs forwards") in refusal(override)


def test_a_preset_and_weights_exclude_each_other() -> None:
    message = refusal("data.preset=E4", "data.category_weights.t2i={text: 1}")
    assert "data.preset and data.category_weights.t2i exclude each other" in message


def test_a_preset_whose_category_no_source_has() -> None:
    message = refusal("data.preset=E5", "data.t2i=[{source: a.txt, category: landscape}]")
    assert "data.preset E5 needs portrait: no source has this category; they have landscape" in message
    assert "give a source this `category`" in message


def test_a_task_without_batches_needs_no_source() -> None:
    assert chosen("tasks.t2i=10", "tasks.edit=0", "data.edit=[]").mixture.values == (Ratio(10, 0),)
    assert chosen("tasks.t2i=0", "tasks.edit=10", "data.t2i=[]").mixture.values == (Ratio(0, 10),)
    late = "tasks=[{until: 5, t2i: 1, edit: 0}, {t2i: 1, edit: 1}]"
    assert "tasks.edit is 1 but data.edit names no source" in refusal(late, "data.edit=[]")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_on_the_pocket_world(preset: str, tmp_path: Path) -> None:
    data = DataPlan.model_validate({"t2i": [{"source": "pocket:t2i:12"}], "preset": preset})
    made = build_composition(data, load_recipe("pocket", ["tasks.edit=0"]).mixture, tmp_path)
    order = BatchOrder(made, lambda case: 0, 6, 0)
    held = [case.category for i in range(2) for case in order.cases(i)[1]]
    assert {name: held.count(name) for name in held} == {name: 12 // len(PRESETS[preset]) for name in PRESETS[preset]}


def test_shares_over_the_run_go_through_from_file_to_batch(tmp_path: Path) -> None:
    lines = ({"prompt": f"{n}", "category": "ab"[n % 2]} for n in range(20))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    schedule = [{"until": 3, "weights": {"a": 1}}, {"weights": {"a": 1, "b": 3}}]
    data = DataPlan.model_validate(
        {"t2i": [{"source": str(tmp_path / "c.jsonl")}], "category_weights": {"t2i": schedule}}
    )
    order = BatchOrder(
        build_composition(data, load_recipe("pocket", ["tasks.edit=0"]).mixture, tmp_path), lambda case: 0, 4, 0
    )
    held = ["".join(sorted(case.category for case in order.cases(i)[1])) for i in range(5)]
    assert held == ["aaaa"] * 3 + ["abbb"] * 2


def test_an_unknown_category_in_the_cases_is_refused_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a boat\n")
    data = DataPlan.model_validate({"t2i": [{"source": str(tmp_path / "p.txt")}], "preset": "E1"})
    with pytest.raises(RecipeError, match=r"data\.preset E1 needs landscape: no source .* they have uncategorised"):
        build_composition(data, load_recipe("pocket", ["tasks.edit=0"]).mixture, tmp_path)


def test_declared_shares_are_what_comes() -> None:
    recipe = chosen(SCHEDULE, "data.preset=E4")
    assert declared_tasks(recipe.mixture, 30) == {"t2i": Fraction(23, 30), "edit": Fraction(7, 30)}
    assert declared_tasks(recipe.mixture, 10) == {"t2i": Fraction(9, 10), "edit": Fraction(1, 10)}
    half = Fraction(1, 2)
    assert declared_categories(recipe.mixture, recipe.data, "t2i", 30) == {"landscape": half, "portrait": half}
    assert declared_categories(recipe.mixture, recipe.data, "edit", 30) == {}
    schedule = "data.category_weights.t2i=[{until: 20, weights: {text: 1}}, {weights: {text: 1, portrait: 1}}]"
    recipe = chosen(SCHEDULE, schedule)
    shares = declared_categories(recipe.mixture, recipe.data, "t2i", 30)
    assert shares == {"text": Fraction(18 + 2, 23) + half / 23, "portrait": Fraction(5, 46)}


def test_a_composition_names_each_case_once(tmp_path: Path) -> None:
    data = DataPlan.model_validate({"t2i": [{"source": "pocket:t2i:6", "weight": 2}]})
    made = build_composition(data, load_recipe("pocket", ["tasks.edit=0"]).mixture, tmp_path)
    assert len(made.cases()) == 6
    assert all(isinstance(case, Case) for case in made.cases())
