"""`teacher` in the place of a shift: settled once, said, kept in the run folder, and shipped as ONE list."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fewstep.backbones.fake_model import size_of_model
from fewstep.backbones.families import stock_levels
from fewstep.backbones.testing import tiny_flux2_klein
from fewstep.run.distill import distill
from fewstep.run.levels import levels_for, settle_levels
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.shift_key import TEACHER
from tests.reporters import Recorded

BOTH = {"student.shift": TEACHER, "objective.time_shift": TEACHER}


@pytest.fixture
def klein(tmp_path: Path) -> Recipe:
    tiny_flux2_klein.flux2_klein_pipeline().save_pretrained(tmp_path / "klein")
    return load_recipe("flux2-klein-24gb", {"model": str(tmp_path / "klein")})


def test_the_shipped_klein_recipe_takes_its_familys_levels(klein: Recipe) -> None:
    said = Recorded()
    assert not klein.student.is_settled
    settled = settle_levels(klein, reporter=said)
    assert list(settled.student.grid) == pytest.approx([1, 0.967, 0.908, 0.767], abs=5e-4)
    assert settled.student.shift == TEACHER
    assert [text for _, text in said.said] == [
        "noise levels 1.000, 0.967, 0.908, 0.767: the teacher's own shift at 1024 x 1024 (student.shift: teacher)",
        "times through shift 7.56 at 1024 x 1024, the teacher's own in 50 steps (objective.time_shift: teacher)",
    ]
    again = settle_levels(settled)
    assert again == settled, "what is settled stays"
    assert list(klein.changed({"student.steps": 8, "size": [512, 512]}).student.model_dump()["sigmas"] or []) == []


def test_what_is_a_number_stays_and_asks_no_model() -> None:
    recipe, said = load_recipe("pocket", {"model": "nowhere"}), Recorded()
    assert settle_levels(recipe, reporter=said) is recipe
    assert said.said == []


def test_a_run_keeps_the_levels_that_it_began_with(klein: Recipe, tmp_path: Path) -> None:
    held = [1.0, 0.9, 0.8, 0.7]
    began = klein.changed({"student.sigmas": held})
    (tmp_path / "recipe.yaml").write_text(began.resolved_yaml())
    assert list(settle_levels(klein, tmp_path).student.grid) == held
    for change in ({"size": [512, 512]}, {"student.steps": 2}):
        other = settle_levels(klein.changed(change), tmp_path)
        wanted = stock_levels(klein.model, other.size, other.student.steps).student
        assert other.student.grid == wanted != klein.changed({"student.sigmas": held}).student.grid
    (tmp_path / "recipe.yaml").write_text(klein.changed({"student.shift": 3.0}).resolved_yaml())
    assert list(settle_levels(klein, tmp_path).student.grid) == pytest.approx([1, 0.967, 0.908, 0.767], abs=5e-4)


def test_a_number_and_a_list_still_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="exclude each other"):
        load_recipe("pocket", {"student.sigmas": [1, 0.9, 0.8, 0.7]})
    with pytest.raises(RecipeError, match="has 3 entries"):
        load_recipe("pocket", {"student.shift": TEACHER, "student.sigmas": [1, 0.9, 0.8]})


def test_a_plan_shows_them_where_they_are_known(klein: Recipe, tmp_path: Path) -> None:
    published = load_recipe("flux2-klein-24gb")
    size = size_of_model(published.model)
    recipe, lines = levels_for(published, size)
    assert list(recipe.student.grid) == pytest.approx([1, 0.967, 0.908, 0.767], abs=5e-4)
    assert len(lines) == 2
    unknown, (line,) = levels_for(klein, replace(size, scheduler=None))
    assert "not known here" in line
    assert len(unknown.student.grid) == 4


def test_the_pocket_run_is_the_same_with_its_teachers_own(tmp_path: Path) -> None:
    """The pocket teacher's shift is 1: one run says so in numbers, the other in words, and both are one run."""
    small: dict[str, Any] = {
        "run.iterations": 1, "run.batch": 2, "run.save_every_iterations": 1, "run.sample_every_iterations": 0,
        "run.examine_every_iterations": 0, "run.best_by": None, "run.device": "cpu", "run.precision": "fp32",
        "student.steps": 2, "objective.first_step_anchor": None, "store": str(tmp_path / "store"),
        "data.t2i": [{"source": "pocket:t2i:4"}], "data.edit": [{"source": "pocket:edit:4"}],
    }  # fmt: skip
    traces = []
    for name, words in (("numbers", {}), ("words", BOTH)):
        recipe = load_recipe("pocket", {**small, **words})
        out = tmp_path / name
        run = distill(recipe, out)
        kept = yaml.safe_load((out / "recipe.yaml").read_text())["student"]
        assert (kept["shift"], kept["sigmas"]) == ((1.0, None) if not words else (TEACHER, [1.0, 0.5]))
        index = json.loads((run.student / "model_index.json").read_text()) if run.student else {}
        assert index["sample_sigmas"] == [1.0, 0.5]
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        traces.append([(line.get("student_loss"), line.get("critic_loss")) for line in lines])
        assert distill(recipe, out).iterations == 1, "the same call goes on"
    assert traces[0] == traces[1]
