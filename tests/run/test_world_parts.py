"""Embedded teachers of two worlds have the same shapes: what belongs to the other world is refused by name."""

from pathlib import Path

import pytest

from fewstep.backbones.embedded import TRAINED_SIZES
from fewstep.data.cases import Case
from fewstep.pocket.known_worlds import WORLDS
from fewstep.run.door import refuse_recipe
from fewstep.run.recipe import load_recipe
from fewstep.run.world_parts import refuse_parts_of_another_world, say_untrained_sizes
from fewstep.runtime.errors import RecipeError
from tests.cli.command_line import fewstep, refused


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("pocket-harder", "student.init_from", "pocket:editor", "student.init_from: pocket:editor was trained over"),
        ("pocket-harder", "data.t2i", [{"source": "pocket:t2i:9"}], "write pocket-harder:t2i:9"),
        ("pocket-harder", "data.edit", [{"source": "pocket:edit:9"}], "data.edit: pocket:edit:9 has cases of another"),
        ("pocket", "data.t2i", [{"source": "pocket-harder:t2i:9"}], "write pocket:t2i:9"),
        ("pocket", "model", "pocket-harder", "has cases of another world than model pocket-harder"),
    ],
)
def test_parts_of_another_world(name: str, key: str, value: object, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        refuse_parts_of_another_world(load_recipe(name, {key: value}))


def test_own_parts_and_files_are_taken() -> None:
    for name in ("pocket", "pocket-harder"):
        refuse_recipe(load_recipe(name))
        refuse_recipe(load_recipe(name, {"data.t2i": [{"source": "mine.jsonl"}], "student.init_from": "mine"}))
    refuse_parts_of_another_world(load_recipe("pocket", {"model": "a/folder", "run.best_by": None}))


def test_it_is_told_at_the_command_line_before_anything_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ["distill", "pocket-harder", "--set", "student.init_from=pocket:editor", "--out", out]
    refused(fewstep(*asked), "was trained over the model pocket, not pocket-harder; leave it out")
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "size", "told"),
    [
        ("pocket-harder", (64, 64), "of 3 cases, 2 at 64 x 64 px: pocket-harder was never trained at that size"),
        ("pocket-harder", (96, 128), None),
        ("pocket", (96, 96), "of 3 cases, 2 at 96 x 96, 1 at 128 x 96 px: pocket was never"),
        ("some/model", (64, 64), None),
    ],
)
def test_sizes_that_an_embedded_teacher_never_saw_are_told(model: str, size: tuple[int, int], told: str | None) -> None:
    sizes = [size, size, (128, 96)]
    cases = [Case(f"c{n}", "t2i", "a house", height=high, width=wide) for n, (high, wide) in enumerate(sizes)]
    said = say_untrained_sizes(model, cases)
    assert (said is None) == (told is None)
    assert told is None or (said or "").startswith(told)


def test_the_sizes_are_those_of_the_worlds() -> None:
    assert {"pocket": WORLDS["pocket"].sizes, "pocket-harder": WORLDS["harder"].sizes} == TRAINED_SIZES
