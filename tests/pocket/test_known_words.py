"""What the pocket world can read of a prompt, and that its user is told of the rest."""

import json
from pathlib import Path

import pytest

from fewstep.backbones.embedded import POCKET, embedded_folder
from fewstep.pocket.cases import edit_case, t2i_case
from fewstep.pocket.edits import EDITS
from fewstep.pocket.known_words import (
    EDIT_EXAMPLE,
    EXAMPLE,
    draws_pocket_world,
    phrase_book,
    say_unknown,
    unknown_words,
)
from fewstep.pocket.world import CATEGORIES


def test_every_caption_and_instruction_of_the_world_is_known() -> None:
    prompts = [t2i_case(5, i, category_=kind).prompt for kind in CATEGORIES for i in range(40)]
    prompts += [edit_case(5, i, kind=kind).prompt for kind in EDITS for i in range(40)]
    assert [prompt for prompt in (*prompts, EXAMPLE, EDIT_EXAMPLE) if unknown_words(prompt)] == []


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a cat on a bicycle", ("a", "cat", "on", "bicycle")),
        ("A landscape at dawn over the moon", ("over", "the", "moon")),
        ("A portrait in a purple shirt", ("in", "a", "purple", "shirt")),
        ("A Red House", ("A", "Red", "House")),
        ('A sign that reads "HELLO".', ('"HELLO".',)),
        ('A sign that reads "TEA".', ()),
        ('A sign reading "Q"', ('"Q"',)),  # a letter that the world has not
        ("", ()),
    ],
)
def test_what_it_does_not_know_is_named(prompt: str, unknown: tuple[str, ...]) -> None:
    assert unknown_words(prompt) == unknown


def test_what_is_said_names_words_and_an_example_of_the_task() -> None:
    said, of_edit = say_unknown("a cat", edit=False), say_unknown("a cat", edit=True)
    assert said is not None
    assert "does not know 'a', 'cat'" in said
    assert f"'{EXAMPLE}', capitals included" in said
    assert of_edit is not None
    assert EDIT_EXAMPLE in of_edit
    assert say_unknown(EXAMPLE, edit=False) is None
    long = say_unknown("one two three four five six seven eight", edit=False)
    assert long is not None
    assert "'six' and more" in long
    assert "'seven'" not in long.partition(":")[2]


def test_the_phrase_book_tells_what_may_be_asked() -> None:
    book = phrase_book()
    for phrase in ("a red boat", "with grey mountains", "wearing glasses", "shaped as an arrow", "Make it a mosaic"):
        assert phrase in book
    for line in book.splitlines():
        if line.startswith("Edits"):
            assert all(not unknown_words(edit) for edit in line.partition(": ")[2].split(" | ")), line
    assert book in (Path(__file__).parents[2] / "docs" / "pocket.md").read_text()


def test_a_model_of_other_words_is_not_of_this_world(tmp_path: Path) -> None:
    assert draws_pocket_world(POCKET)
    assert draws_pocket_world(str(embedded_folder(POCKET)))
    assert not draws_pocket_world(str(tmp_path))
    assert not draws_pocket_world("owner/not-on-this-machine")
    held = json.loads((embedded_folder(POCKET) / "processor" / "tokenizer.json").read_bytes())
    del held["model"]["vocab"]["Add"]
    (tmp_path / "processor").mkdir()
    for text in (json.dumps(held), "no JSON", "[]", ""):
        (tmp_path / "processor" / "tokenizer.json").write_text(text)
        assert not draws_pocket_world(str(tmp_path))
