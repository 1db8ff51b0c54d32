"""The demo of each world: whole, on a run of two updates; and what it refuses."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.cli.verbs import demo
from fewstep.pocket import student_eval
from fewstep.pocket.exam import ExamSpec
from fewstep.pocket.harder import run_examiner
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.run import recipe as recipes
from fewstep.run.recipe import Recipe, load_recipe
from tests.cli.command_line import fewstep, refused

SMALL = {"iterations": 2, "batch": 2, "save_every_iterations": 2, "examine_every_iterations": 2, "precision": "fp32"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Demos of seconds: few updates, cases and steps."""

    def shrunk(name: str | Path, *given: object) -> Recipe:
        found = load_recipe(name, *given)  # type: ignore[arg-type]
        if str(name) not in ("pocket", "pocket-harder"):
            return found
        few = {f"data.{task}": [{"source": f"{found.model}:{task}:8"}] for task in ("t2i", "edit")}
        small = {f"run.{key}": value for key, value in SMALL.items()}
        return load_recipe(name, {**few, **small, "run.sample_every_iterations": 0})

    monkeypatch.setattr(recipes, "load_recipe", shrunk)
    for world, name in (("pocket", "pocket"), ("harder", "pocket-harder")):
        shown = demo.DEMOS[world]
        small_one = demo.Demo(lambda name=name: shrunk(name), shown.examine, shown.columns, shown.shown, shown.words)
        monkeypatch.setitem(demo.DEMOS, world, small_one)  # type: ignore[misc]
    monkeypatch.setattr(demo, "DEMO_EXAM", ExamSpec(cases=1, diversity=0))
    monkeypatch.setattr(demo, "HARDER_DEMO_EXAM", HarderExamSpec(cases=1, diversity=0))
    monkeypatch.setattr(run_examiner, "ASKED", HarderExamSpec(cases=3, diversity=0, seed=9))
    monkeypatch.setattr(student_eval, "CASES", 2)
    monkeypatch.setattr(QwenImage21, "default_steps", 2)


@pytest.mark.parametrize(
    ("world", "words", "rows"),
    [("harder", "under “What may be asked”", 12), ("pocket", "fewstep demo --world pocket", 9)],
)
def test_a_demo_leaves_a_student_a_page_and_an_overview(
    small: None, tmp_path: Path, world: str, words: str, rows: int
) -> None:
    out = tmp_path / "demo"
    told = fewstep("demo", "--world", world, "--out", out)
    assert told.exit_code == 0, told.output
    assert "open it in a browser" in told.output
    page = (out / "report.html").read_text()
    assert words in page
    assert "fewstep sample" in page
    examined = json.loads((out / "examination" / "figures.json").read_text())
    assert {"teacher", "teacher-4", "student"} <= set(examined["systems"])
    with Image.open(out / "overview.png") as picture:
        assert picture.height > rows * 192
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*.png") if path.parent.name == "pictures"}
    assert made
    assert fewstep("demo", "--world", world, "--out", out).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    other = "pocket" if world == "harder" else "harder"
    refused(fewstep("demo", "--world", other, "--out", out), f"is the demo of the {world} world", f"--world {world}")


def test_a_world_that_there_is_not(tmp_path: Path) -> None:
    refused(fewstep("demo", "--world", "moon", "--out", tmp_path / "out"), "choose pocket or harder")
    assert not (tmp_path / "out").exists()
