"""`run.precision: auto` is settled once, and a run keeps what it began with."""

from pathlib import Path

import pytest

from fewstep.run.precision import precision_for, settle_precision, with_precision
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.cpu_bfloat16 import fast_bfloat16
from tests.reporters import Recorded

HERE, OTHER = ("bf16", "fp32") if fast_bfloat16() else ("fp32", "bf16")


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("pocket", {"run.device": "cpu"})


def test_the_shipped_pocket_recipe_leaves_it_to_the_machine(recipe: Recipe) -> None:
    assert recipe.run.precision == "auto"


def test_a_cpu_takes_what_is_faster_and_says_so(recipe: Recipe) -> None:
    said = Recorded()
    settled = settle_precision(recipe, reporter=said)
    assert settled.run.precision == HERE
    assert settled == recipe.changed({"run.precision": HERE})
    assert len(said.said) == 1
    assert said.said[0][1].startswith(f"precision {HERE}, since this CPU takes ")


def test_what_is_asked_for_by_name_stays(recipe: Recipe) -> None:
    asked, said = with_precision(recipe, OTHER), Recorded()
    assert settle_precision(asked, reporter=said) is asked
    assert said.said == []


def test_a_run_goes_on_in_the_precision_that_it_began_with(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(with_precision(recipe, OTHER).resolved_yaml())
    assert settle_precision(recipe, tmp_path).run.precision == OTHER


def test_a_recipe_that_cannot_be_read_settles_nothing(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: [")
    assert settle_precision(recipe, tmp_path).run.precision == HERE


def test_a_plan_for_a_gpu_counts_bf16_wherever_it_is_made(recipe: Recipe) -> None:
    assert precision_for(recipe, on_gpu=True).run.precision == "bf16"
    assert precision_for(recipe, on_gpu=False).run.precision == HERE
