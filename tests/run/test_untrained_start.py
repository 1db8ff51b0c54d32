"""What of the untrained start stays in the student that ships."""

import json
from pathlib import Path

import pytest

from fewstep.run.recipe import load_recipe, shipped_recipes
from fewstep.run.untrained_start import refuse_untrained_start
from fewstep.runtime.errors import RecipeError
from fewstep.train.ema_decay import start_share
from tests.cli.command_line import fewstep
from tests.reporters import Recorded
from tests.train.runs import toy_trainer


@pytest.mark.parametrize("name", shipped_recipes())
def test_no_shipped_recipe_ships_more_than_a_hundredth_of_its_start(name: str) -> None:
    recipe = load_recipe(name)
    assert start_share(recipe.student.ema, recipe.run.iterations) < 0.01


def test_a_run_that_would_ship_its_start_is_refused_with_what_would_do() -> None:
    recipe = load_recipe("pocket", ["run.iterations=1", "student.ema=0.9"])
    told = r"student\.ema 0\.9 still holds 10\.0% of the untrained start.*student\.ema to 0\.05 or lower.* to 2 or more"
    with pytest.raises(RecipeError, match=told):
        refuse_untrained_start(recipe.student, recipe.run)
    for remedy in (["run.iterations=2", "student.ema=0.9"], ["run.iterations=1", "student.ema=0.05"]):
        mended = load_recipe("pocket", remedy)
        refuse_untrained_start(mended.student, mended.run)


@pytest.mark.parametrize("command", [("recipe", "show"), ("distill",)])
def test_it_is_refused_at_the_door(command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = fewstep(*command, "pocket", "--set", "run.iterations=1")
    assert result.exit_code == 2
    assert "of the untrained start" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_what_ships(tmp_path: Path) -> None:
    said = Recorded()
    toy_trainer(tmp_path, hooks={"reporter": said}).train()
    assert any("student.ema 0.9), with under 0.1 % of the untrained start" in line for _, line in said.said)


def test_a_run_of_before_the_warm_up_goes_on_without_one_and_is_told(tmp_path: Path) -> None:
    toy_trainer(tmp_path, iterations=2).train()
    state = tmp_path / "checkpoints" / "iteration-000002" / "state.json"
    held = json.loads(state.read_text())
    assert held["average"]["start_share"] == pytest.approx(0.1 * 2 / 11)
    del held["average"]
    place = state.parent
    (place / "hashes.json").unlink()
    state.write_text(json.dumps(held))
    sizes = {file.name: file.stat().st_size for file in place.iterdir() if file.name != "COMPLETE"}
    (place / "COMPLETE").write_text(json.dumps(sizes))
    said = Recorded()
    trainer = toy_trainer(tmp_path, iterations=6, hooks={"reporter": said})
    trainer.train()
    assert trainer.step.optimizers.ema.start_share == pytest.approx(0.9**6)
    assert any("has no warm-up" in line and "53%" in line and "--weights raw" in line for _, line in said.said)
