"""What the pocket world can read of a prompt, and that its user is told of the rest."""

import json
import random
from pathlib import Path

import pytest

from fewstep.backbones.embedded import HARDER, POCKET, embedded_folder
from fewstep.pocket.cases import edit_case, t2i_case
from fewstep.pocket.edits import EDITS
from fewstep.pocket.harder.cases import CATEGORIES as HARDER_CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS, instruction_case, prompt_case, proposed
from fewstep.pocket.harder.known_words import CHAINED, HARDER_WORDS
from fewstep.pocket.harder.vocabulary import PHRASES, tokenizer
from fewstep.pocket.known_words import POCKET_WORDS
from fewstep.pocket.known_world import KnownWorld
from fewstep.pocket.known_worlds import WORLDS
from fewstep.pocket.vocabulary import SPACE, spelled
from fewstep.pocket.world import CATEGORIES
from fewstep.pocket.world_of_model import world_of_model


def test_every_caption_and_instruction_of_a_world_is_known() -> None:
    easy = [t2i_case(5, i, category_=kind).prompt for kind in CATEGORIES for i in range(40)]
    easy += [edit_case(5, i, kind=kind).prompt for kind in EDITS for i in range(40)]
    harder = [prompt_case(5, i, kind).prompt for kind in HARDER_CATEGORIES for i in range(40)]
    harder += [instruction_case(5, i, kind).prompt for kind in EDIT_KINDS for i in range(20)]
    for world, prompts in ((POCKET_WORDS, easy), (HARDER_WORDS, harder)):
        asked = (*prompts, world.example, world.edit_example)
        assert [prompt for prompt in asked if world.unknown_words(prompt)] == []


def test_tokens_of_chained_phrases_are_those_that_instructions_make() -> None:
    phrases, made = {*map(spelled, PHRASES)}, set[str]()
    for kind in EDIT_KINDS:
        rng = random.Random(f"chained {kind}")
        for _ in range(600):
            for wording in proposed(kind, rng, "heldout").wordings:
                made.update(tokenizer().encode(f"{wording}.").tokens)
    unquoted = {token for token in made - phrases if token.replace(SPACE, "").isascii() and '"' not in token}
    assert unquoted == {*map(spelled, CHAINED)}


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
    assert POCKET_WORDS.unknown_words(prompt) == unknown


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a cat on a bicycle", ("a", "cat", "on", "bicycle")),
        ('A sign that reads "HELLO2".', ()),
        ('A sign that reads "HELLO22".', ('"HELLO22".',)),
        ('A sign reading "hi"', ('"hi"',)),
        ("Give it the hat of image 4.", ("image", "4.")),
    ],
)
def test_what_the_harder_world_does_not_know_is_named(prompt: str, unknown: tuple[str, ...]) -> None:
    assert HARDER_WORDS.unknown_words(prompt) == unknown


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_what_is_said_names_words_and_an_example_of_the_task(world: KnownWorld) -> None:
    said, of_edit = world.say_unknown("a cat", edit=False), world.say_unknown("a cat", edit=True)
    assert said is not None
    assert "does not know 'a', 'cat'" in said
    assert f"'{world.example}', capitals included" in said
    assert world.command in said
    assert of_edit is not None
    assert world.edit_example in of_edit
    assert world.say_unknown(world.example, edit=False) is None
    long = world.say_unknown("alpha beta gamma delta epsilon zeta eta theta", edit=False)
    assert long is not None
    assert "'zeta' and more" in long
    assert "'eta'" not in long.partition(":")[2]


def test_what_was_never_trained_is_told() -> None:
    taking = "Give it the hat of image 2."
    told = HARDER_WORDS.say_untrained(taking, 1, None)
    assert told == f"'{taking}' names image 2, and 1 of its pictures are given; give them all"
    assert HARDER_WORDS.say_untrained(taking, 2, (96, 96)) is None
    assert "edits of the harder world have 3 pictures at most, not 4" in str(HARDER_WORDS.say_untrained("x", 4, None))
    assert "was never drawn at 256x256; it knows 96x96" in str(HARDER_WORDS.say_untrained("x", 0, (256, 256)))
    assert "edits of the pocket world have 1 pictures at most" in str(POCKET_WORDS.say_untrained("x", 2, None))
    assert POCKET_WORDS.say_untrained(POCKET_WORDS.example, 0, (64, 64)) is None


@pytest.mark.parametrize(
    ("world", "page", "phrases"),
    [
        ("pocket", "pocket.md", ("a red boat", "with grey mountains", "wearing glasses", "shaped as an arrow")),
        ("harder", "harder-world.md", ("lighthouse", "with grey mountains", "made of plaster", "on a checked table")),
    ],
)
def test_the_phrase_book_tells_what_may_be_asked(world: str, page: str, phrases: tuple[str, ...]) -> None:
    known = WORLDS[world]
    book = known.phrase_book()
    for phrase in (*phrases, "Make it a mosaic"):
        assert phrase in book
    for line in book.splitlines():
        if line.startswith(("Edits", "Repairs")):
            assert all(not known.unknown_words(edit) for edit in line.partition(": ")[2].split(" | ")), line
    assert book in (Path(__file__).parents[2] / "docs" / page).read_text()


def test_a_model_of_other_words_is_of_no_world(tmp_path: Path) -> None:
    for name, world in ((POCKET, "pocket"), (HARDER, "harder")):
        assert world_of_model(name) == world
        assert world_of_model(str(embedded_folder(name))) == world
    assert world_of_model(str(tmp_path)) is None
    assert world_of_model("owner/not-on-this-machine") is None
    held = json.loads((embedded_folder(POCKET) / "processor" / "tokenizer.json").read_bytes())
    del held["model"]["vocab"]["Add"]
    (tmp_path / "processor").mkdir()
    for text in (json.dumps(held), "no JSON", "[]", ""):
        (tmp_path / "processor" / "tokenizer.json").write_text(text)
        assert world_of_model(str(tmp_path)) is None
