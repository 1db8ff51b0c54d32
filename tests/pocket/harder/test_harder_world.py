"""The harder world: captions say what scenes are, edits are determined, pictures differ where attributes do."""

import itertools
import json
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from fewstep.backbones.embedded import HARDER, embedded_folder
from fewstep.pocket.harder import captions, edits, scenes, vocabulary
from fewstep.pocket.harder.attributes import CATEGORIES, GLYPHS, INKS_ON, NONE
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import SIZES, Scene, random_scene
from fewstep.pocket.harder.sign import GLYPH, glyph_mask
from fewstep.pocket.vocabulary import spelled
from pocket_making.harder import letter_embeddings

KINDS = list(CATEGORIES)


def drawn(
    category: str, number: int, split: scenes.Split = "train", size: scenes.Size | None = (96, 96)
) -> list[Scene]:
    rng = random.Random(f"{category} {split}")
    return [random_scene(category, rng, split, size) for _ in range(number)]


def pixels(it: Scene) -> np.ndarray:
    return np.asarray(render(it)).astype(int)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return vocabulary.tokenizer()


TOLD = """
from fewstep.pocket.harder import cases
from pocket_making.harder import corpus
for layout in corpus.layouts(4):
    for index in range(12):
        print(corpus.corpus_sample(layout, 0, index)[0])
for category in ("landscape", "portrait", "text", "still-life"):
    for index in range(6):
        print(cases.prompt_case(0, index, category).prompt)
for kind in cases.EDIT_KINDS:
    print(cases.instruction_case(0, 0, kind).prompt)
"""


def test_texts_are_the_same_in_every_process() -> None:
    """Names of attributes are sets of strings, whose order differs from one process to the next."""
    told = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        words = [sys.executable, "-c", TOLD]
        told.append(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(told[0].splitlines()) == 10 * 12 + 4 * 6 + 8
    assert told[0] == told[1]


@pytest.mark.parametrize("category", KINDS)
@pytest.mark.parametrize("size", list(SIZES))
def test_a_scene_has_one_picture_of_its_size(category: str, size: scenes.Size) -> None:
    it = drawn(category, 1, size=size)[0]
    assert render(it).size == size
    assert np.array_equal(pixels(it), pixels(it))


@pytest.mark.parametrize("category", KINDS)
def test_each_attribute_can_be_seen(category: str) -> None:
    """Changing one attribute alone changes the picture, where the scene remains one that can be drawn."""
    changes: dict[str, list[float]] = {each.name: [] for each in CATEGORIES[category]}
    for it, (name, values) in ((it, (a.name, a.values)) for it in drawn(category, 5) for a in CATEGORIES[category]):
        for value in values:
            if value == it[name] or NONE in (value, it[name]):
                continue
            changed = it.having(**{name: value})
            if edits.possible(changed) and render(changed) is not None:
                changes[name].append(np.abs(pixels(changed) - pixels(it)).max())
    for name, seen in changes.items():
        assert seen, name
        assert min(seen) >= 12, (name, seen)


def test_glyphs_are_told_apart() -> None:
    for width, height in GLYPH.values():
        masks = [glyph_mask(glyph, width, height) for glyph in GLYPHS]
        gaps = [np.abs(a - b).mean() for k, a in enumerate(masks) for b in masks[:k]]
        assert len(masks) == 40
        assert min(gaps) > 0.04


@pytest.mark.parametrize("category", KINDS)
def test_full_captions_tell_scenes_apart_and_light_and_pose_do_not(category: str) -> None:
    told: dict[str, Scene] = {}
    for it in drawn(category, 300):
        text = captions.caption(it, random.Random(0), captions.usual(it))
        quiet = {a.name: a.values[0] for a in CATEGORIES[category] if a.quiet}
        assert told.setdefault(text, it).having(**quiet) == it.having(**quiet), text


@pytest.mark.parametrize("category", KINDS)
def test_captions_are_from_a_few_words_to_about_sixty(category: str) -> None:
    rng, lengths = random.Random(1), []
    for it in drawn(category, 60):
        lengths.append(len(captions.caption(it, rng, frozenset({"word"})).split()))
        lengths.append(len(captions.caption(it, rng, captions.everything(it), asides=5).split()))
    assert min(lengths) <= 4
    assert 48 <= max(lengths) <= 64


@pytest.mark.parametrize("category", KINDS)
def test_a_caption_names_what_it_is_asked_to_and_nothing_else(category: str) -> None:
    """Scenes that differ in what is not named have one caption."""
    for it in drawn(category, 20):
        for each in CATEGORIES[category]:
            for value in each.values:
                if NONE in (value, it[each.name]):
                    continue
                other = it.having(**{each.name: value})
                without = captions.everything(it) - {each.name}
                texts = [captions.caption(s, random.Random(2), without) for s in (it, other)]
                assert texts[0] == texts[1], (each.name, value)


def test_what_is_not_counted_is_right_of_one_as_of_several() -> None:
    def told(category: str, name: str, count: str, **values: str) -> str:
        it = next(it for it in drawn(category, 200) if it[name] != NONE).having(count=count, **values)
        text = captions.caption(it, random.Random(0), frozenset({name, "colour"}))
        return text.partition(" and" if name == "thing" else " with")[2]

    for count in ("one", "two", "three"):
        assert told("landscape", "thing", count, thing="house", colour="red") == " a red house or houses."
        assert told("still-life", "fruit", count, fruit="orange", colour="yellow") == " a yellow orange or oranges."
    assert told("landscape", "thing", "one", thing="tree", colour="orange") == " an orange tree or trees."


def test_the_tokens_of_a_teacher_in_training_stay() -> None:
    """Its text encoder gives each token a fixed vector, so one that moved would mean something else."""
    file = embedded_folder(HARDER) / "processor" / "tokenizer.json"
    assert vocabulary.vocabulary() == json.loads(file.read_text())["model"]["vocab"]


@pytest.mark.parametrize("category", KINDS)
def test_possible_scenes_are_those_that_are_drawn(category: str) -> None:
    """Of each attribute changed alone: possible where the attributes that it hangs together with are drawn so."""
    bound = {
        "landscape": (("thing", "colour"), ("thing", "count"), ("count", "place"), ("thing", "ground")),
        "portrait": (("hat", "hat_colour"), ("style", "hat")),
        "text": (("board", "ink"),),
        "still-life": (("fruit", "colour"),),
    }[category]
    rng = random.Random(0)
    every = [scenes.RANDOM[category](rng) for _ in range(2000)]
    seen = {pair: {tuple(it[name] for name in pair) for it in every} for pair in bound}
    assert all(edits.possible(it) for it in every)
    for it in every[:40]:
        for each in CATEGORIES[category]:
            for changed in (it.having(**{each.name: value}) for value in each.values):
                is_drawn = all(tuple(changed[name] for name in pair) in seen[pair] for pair in bound)
                is_drawn = is_drawn and not (len(changed.word) > scenes.LARGE_ROOM and changed["size"] == "large")
                assert edits.possible(changed) == is_drawn, changed


def test_no_word_is_spelled_by_its_letters(tokenizer: Tokenizer) -> None:
    """All of captions and instructions is phrases and quoted letters, so a caption is a few dozen tokens."""
    rng = random.Random(3)
    for category in KINDS:
        for it in drawn(category, 80, size=None):
            texts = [captions.caption(it, rng, captions.drawn_names(it, rng), rng.choice((0, 3)))]
            for kind in edits.EDITS:
                edit = edits.PROPOSE[kind](it, rng)
                texts += [wording + "." for wording in edit.wordings] if edit else []
            reference = edits.reference_edit(it, rng, rng.choice((1, 2)))
            texts += [wording + "." for wording in reference.wordings] if reference else []
            for text in texts:
                tokens = tokenizer.encode(text).tokens
                rest = [t for t in tokens if len(t.strip("\u0120")) == 1 and t != "." and t != "\u0120a"]
                assert not rest, (text, rest)
                assert len(tokens) <= 32, text
                told = tokenizer.decode(tokenizer.encode(text).ids)
                for mark in vocabulary.MARKS.values():
                    told = told.replace(mark, "")
                assert told == text


def test_a_letters_token_says_which_letter_of_its_word_it_is(tokenizer: Tokenizer) -> None:
    marks = {place: spelled(mark) for place, mark in vocabulary.MARKS.items()}

    def tokens(word: str) -> list[str]:
        return tokenizer.encode(f'A sign reading "{word}".').tokens[2:-1]

    assert tokens("K") == ['\u0120"K"']
    assert tokens("K?") == ['\u0120"K', f'{marks[2]}?"']
    assert tokens("ABCDEF") == [
        '\u0120"A',
        *(f"{marks[n]}{glyph}" for n, glyph in enumerate("BCDE", 2)),
        f'{marks[6]}F"',
    ]
    for glyph in GLYPHS:
        assert [token.strip('"')[-1] for token in tokens(glyph * 6)] == [glyph] * 6
    two = tokenizer.encode('Change the letters to "AB" and " CD" or "E".').tokens
    assert f'{marks[2]}B"' in two
    assert not any(token.startswith(marks[2]) and "D" in token for token in two)  # no letter stands before a space


def test_the_pipelines_own_tokenizer_marks_letters_too(harder_teacher: Path) -> None:
    """Read from its folder by the stock loader."""
    stock = AutoProcessor.from_pretrained(harder_teacher / "processor").tokenizer
    text = 'A red sign reading "Q7K&".'
    assert stock(text)["input_ids"] == vocabulary.tokenizer().encode(text).ids


def test_heldout_scenes_and_words_are_apart_from_training() -> None:
    words = {it.word for it in drawn("text", 400) if len(it.word) > 1}
    assert not words & {it.word for it in drawn("text", 200, "heldout") if len(it.word) > 1}
    assert all(scenes.split_of(it) == "heldout" for kind in KINDS for it in drawn(kind, 50, "heldout"))


@pytest.mark.parametrize("kind", edits.EDITS)
def test_an_edit_changes_what_it_says(kind: str) -> None:
    rng, seen = random.Random(5), 0
    for category in KINDS:
        for it in drawn(category, 15):
            edit = edits.PROPOSE[kind](it, rng)
            if edit is None:
                continue
            seen += 1
            assert edits.possible(edit.target)
            unchanged = [name for name, _ in it.named if name not in edit.changed]
            gone = edit.target.category == "landscape" and edit.target["thing"] == NONE
            assert gone or all(edit.target[name] == it[name] for name in unchanged)
            pictures = edits.edit_images(edit, ("test", seen))
            assert np.abs(np.asarray(pictures[0]).astype(int) - np.asarray(pictures[-1])).max() > 8
    assert seen > 5


@pytest.mark.parametrize("pictures", [1, 2])
def test_what_is_taken_from_another_picture_is_what_it_shows(pictures: int) -> None:
    rng, seen = random.Random(6), 0
    for category in KINDS:
        for it in drawn(category, 40):
            edit = edits.reference_edit(it, rng, pictures)
            if edit is None:
                continue
            seen += 1
            assert len(edit.references) == pictures
            assert all(any(edit.target[name] == lent[name] for lent in edit.references) for name in edit.changed)
            assert edit.target != edit.source
    assert seen > 25


def test_letters_lie_on_the_grid_of_latents() -> None:
    """A large letter has a tile of its own, and two small ones share one."""
    for it in drawn("text", 60, size=None):
        from_word = it.word and scenes.replace(it, word="")
        if not from_word:
            continue
        gap = np.abs(pixels(it) - np.asarray(render(scenes.replace(it, word="I" * len(it.word)))).astype(int)).max(-1)
        rows = np.flatnonzero(gap.max(1) > 4)
        assert not len(rows) or rows.min() // 16 == rows.max() // 16


def test_inks_are_read_on_their_boards() -> None:
    for it in drawn("text", 100):
        assert it["ink"] in INKS_ON[it["board"]]
    assert all(a != b for a, b in pairwise(sorted(INKS_ON)))


def test_a_letter_is_the_same_glyph_wherever_it_stands() -> None:
    """Two tokens are as near as they have things in common: the glyph, the place, whether the word ends there."""
    rows = letter_embeddings.letter_rows(8192)
    told = letter_embeddings.letter_tokens()
    assert told.keys() <= vocabulary.vocabulary().keys()
    pairs = random.Random(0).sample(list(itertools.combinations(told, 2)), 300)
    for one, two in pairs:
        shares = [left == right for left, right in zip(told[one], told[two], strict=True)]
        expected = sum(same * weight**2 for same, weight in zip(shares, (0.7, 0.6, 0.4), strict=True))
        assert torch.cosine_similarity(rows[one], rows[two], dim=0).item() == pytest.approx(expected, abs=0.06)


def test_letters_alone_get_embeddings_of_their_own(harder_teacher: Path) -> None:
    """In a new pipeline of this world; all other tokens have random ones."""
    encoder = Qwen3VLForConditionalGeneration.from_pretrained(harder_teacher / "text_encoder", dtype=torch.float32)
    table = encoder.get_input_embeddings().weight.detach()
    rows = letter_embeddings.letter_rows(table.shape[1])
    every = torch.stack([*rows.values()])
    for token, index in vocabulary.vocabulary().items():
        if token in rows:
            torch.testing.assert_close(table[index], rows[token])
        else:
            assert torch.cosine_similarity(table[index][None], every).max() < 0.6, token
