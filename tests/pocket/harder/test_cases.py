"""Cases say what is asked, and hold every exact answer that can be listed."""

import random

import numpy as np
import pytest

from fewstep.pocket.harder import cases
from fewstep.pocket.harder.attributes import CATEGORIES, NONE
from fewstep.pocket.harder.captions import caption
from fewstep.pocket.harder.edits import possible
from fewstep.pocket.harder.scenes import split_of

KINDS = list(CATEGORIES)


def prompts(category: str, count: int = 9) -> list[cases.HarderCase]:
    return [cases.prompt_case(1, index, category) for index in range(count)]


@pytest.mark.parametrize("category", KINDS)
def test_prompts_are_held_out_and_a_function_of_their_index(category: str) -> None:
    drawn = prompts(category)
    assert all(split_of(case.scene) == "heldout" for case in drawn)
    assert [case.prompt for case in drawn] == [case.prompt for case in prompts(category)]
    assert len({case.prompt for case in drawn}) == len(drawn)
    assert len({case.id for case in drawn}) == len(drawn)
    assert all(case.size == (case.target.height, case.target.width) for case in drawn)


@pytest.mark.parametrize("category", KINDS)
def test_prompts_of_three_lengths(category: str) -> None:
    lengths: dict[str, list[int]] = {}
    for case in prompts(category, 18):
        lengths.setdefault(str(case.length), []).append(len(case.prompt.split()))
    short, middle, long = (float(np.mean(lengths[name])) for name in ("short", "middle", "long"))
    assert short < middle < long
    assert min(lengths["short"]) <= 9
    assert max(lengths["long"]) >= 35


@pytest.mark.parametrize("category", KINDS)
def test_what_is_asked_is_what_the_prompt_says(category: str) -> None:
    """A change of anything else leaves the words as they are; a change of what is asked does not."""
    for case in prompts(category, 6):
        said = caption(case.scene, random.Random(0), case.named)
        for each in CATEGORIES[category]:
            others = [
                case.scene.having(**{each.name: value}) for value in each.values if value != case.scene[each.name]
            ]
            told = [caption(other, random.Random(0), case.named) for other in others if possible(other)]
            if each.name in case.asked:
                assert said not in told, (case.prompt, each.name)
            elif each.name not in case.named and told:
                assert set(told) == {said}, (case.prompt, each.name)
        assert (cases.WORD in case.asked) == (category == "text")


@pytest.mark.parametrize("category", KINDS)
def test_exact_answers_are_listed_but_for_short_prompts(category: str) -> None:
    for case in prompts(category, 6):
        if case.length == "short":
            assert case.answers == ()
            continue
        shown = [answer.tobytes() for answer in case.answers]
        assert np.asarray(case.target).tobytes() in shown
        assert all(np.asarray(case.answer_at_random(random.Random(k))).tobytes() in shown for k in range(4))
        assert case.length == "long" or len(shown) > 1


def test_nothing_that_is_not_there_is_asked_about() -> None:
    for case in (case for category in KINDS for case in prompts(category, 24)):
        for name in case.asked:
            beside = cases.SAID_WITH[case.scene.category].get(name, ())
            assert all(case.scene[other] != NONE for other in beside), (case.prompt, name)


@pytest.mark.parametrize("kind", cases.EDIT_KINDS)
def test_an_edit_says_what_changes_and_what_stays(kind: str) -> None:
    for case in (cases.instruction_case(1, index, kind) for index in range(6)):
        assert split_of(case.scene) == "heldout"
        assert len(case.references) == 1 + cases.TAKING.get(kind, 0)
        assert all(picture.size == case.target.size for picture in case.references)
        assert not set(case.asked) & set(case.kept)
        assert bool(case.asked) == (kind != "perceptual")
        assert bool(case.kept) == (kind != "style")
        (exact,) = case.answers
        source = np.asarray(case.references[0]).astype(int)
        assert case.region is not None
        assert np.abs(source - exact)[~case.region].max(initial=0) <= 1
        assert np.abs(source - exact).max() > 8
