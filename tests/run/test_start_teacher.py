"""A student that begins as a teacher's LoRA, of which the base teaches some steps alone."""

from pathlib import Path

import pytest

from fewstep.data.mixture import used_tasks
from fewstep.run.recipe import Recipe, load_recipe, shipped_recipes
from fewstep.run.start_teacher import unlearnt_starts

BARE = ("teachers.preset=step-wise", "teachers.named.mine.anchor=false")


def lines(recipe: Recipe) -> list[str]:
    return list(unlearnt_starts(recipe.student, recipe.teachers, used_tasks(recipe.mixture)))


@pytest.mark.parametrize("name", shipped_recipes())
def test_no_shipped_recipe_unlearns_its_start(name: str) -> None:
    assert lines(load_recipe(name)) == []


def test_steps_that_the_base_teaches_alone_are_told() -> None:
    (line,) = lines(load_recipe("my-lora", BARE))
    assert "adapter of teachers.named.mine, but at student steps 0, 1 the base teaches alone" in line
    assert "teachers.named.mine.anchor: true" in line
    (line,) = lines(load_recipe("my-lora", ["teachers.named.mine.anchor=false"]))  # base-only: it never teaches
    assert "at student steps 0, 1, 2, 3" in line


@pytest.mark.parametrize(
    "change",
    [
        "student.init_from=null",
        "student.init_from=other.safetensors",
        "teachers.rows=[0.5, 0.5, 0.5, 1]",
        "teachers.named.mine.tasks=[edit]",  # of which there are no batches
    ],
)
def test_nothing_is_told_where_nothing_is_unlearnt(change: str) -> None:
    assert lines(load_recipe("my-lora", [*BARE, change])) == []


def test_one_file_under_two_names_is_the_same_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    changes = ["student.init_from=a.safetensors", "teachers.named.mine.adapter=linked/a.safetensors"]
    assert len(lines(load_recipe("my-lora", [*BARE, *changes]))) == 1
