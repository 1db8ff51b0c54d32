"""The pocket world: deterministic, split without overlap, edits exact, captions within the vocabulary."""

import dataclasses

import numpy as np
import pytest

from fewstep.pocket import (
    captions,
    cases,
    edits,
    world,
)
from fewstep.pocket.vocabulary import vocabulary
from pocket_making import corpus


def every_case(count: int, split: world.Split = "heldout") -> list[cases.PocketCase]:
    return [make(0, i, split) for i in range(count) for make in (cases.t2i_case, cases.edit_case)]


def test_a_case_is_a_pure_function_of_its_name() -> None:
    for first, again in zip(every_case(12), every_case(12), strict=True):
        assert (first.id, first.prompt, first.attributes, first.letters) == (
            again.id,
            again.prompt,
            again.attributes,
            again.letters,
        )
        assert first.target.tobytes() == again.target.tobytes()
        assert [r.tobytes() for r in first.references] == [r.tobytes() for r in again.references]


def test_scenes_are_immutable() -> None:
    scene = cases.t2i_case(0, 0).scene
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.wall = "blue"  # type: ignore[union-attr]


def test_held_out_scenes_and_words_are_never_trained_on() -> None:
    trained = [case.scene for case in every_case(60, "train")]
    heldout = [case.scene for case in every_case(60, "heldout")]
    assert {world.split_of(scene) for scene in trained} == {"train"}
    assert {world.split_of(scene) for scene in heldout} == {"heldout"}
    words = [
        {s.letters for s in some if isinstance(s, world.Sign) and len(s.letters) > 1} for some in (trained, heldout)
    ]
    assert not words[0] & words[1]


def test_categories_and_kinds_take_turns() -> None:
    assert [cases.t2i_case(3, i).category for i in range(6)] == [*world.CATEGORIES] * 2
    assert [cases.edit_case(3, i).category for i in range(6)] == list(edits.EDITS)
    assert edits.EDITS == ("scene", "perceptual", "object", "text", "identity", "style")


@pytest.mark.parametrize("kind", edits.EDITS)
def test_edits_change_their_region_only_and_something_in_it(kind: str) -> None:
    for index in range(12):
        case = cases.edit_case(1, index, kind=kind)
        source, target = (np.asarray(image).astype(int) for image in (case.references[0], case.target))
        gap = np.abs(source - target).max(-1)
        assert case.region is not None
        assert (gap[~case.region] <= 1).all()
        assert gap[case.region].max() > 20
        if kind in ("perceptual", "style"):
            assert case.region.all()
        else:
            assert case.region.mean() < 0.95
            assert case.changed


def test_text_edits_keep_the_number_of_letters_and_name_them() -> None:
    for index in range(12):
        case = cases.edit_case(2, index, kind="text")
        assert case.letters is not None
        assert captions.quoted_word(case.letters) in case.prompt
        assert set(case.letters) <= set(world.GLYPHS)
        assert 1 <= len(case.letters) <= 3


def test_every_caption_is_a_chain_of_known_phrases() -> None:
    """No caption falls back on spelling: each token is a phrase, or a letter with the quotation marks of its slot."""
    tokens = {index: text for text, index in vocabulary().items()}
    phrases = set(captions.phrases())
    for case in every_case(60, "train"):
        ids = corpus.tokenizer().encode(case.prompt).ids
        assert len(ids) <= corpus.LONGEST
        for text in (tokens[i].replace("\u0120", " ") for i in ids):
            assert text in phrases or text.strip(' "') in set(world.GLYPHS), (text, case.prompt)


def test_a_letter_shows_its_slot() -> None:
    def read(text: str) -> list[str]:
        return corpus.tokenizer().encode(text).tokens

    assert read(' "KAT"') == ['\u0120"K', "A", 'T"']
    assert read(' "KT"') == ['\u0120"K', 'T"']
    assert read(' "K"') == ['\u0120"K"']


def test_any_text_can_be_spelled() -> None:
    ids = corpus.tokenizer().encode("Gr\u00fc\u00dfe, 42!").ids
    assert corpus.tokenizer().decode(ids, skip_special_tokens=False)
