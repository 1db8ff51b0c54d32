"""How well a picture is drawn: exact pictures have all of it, and each degradation has less the more severe it is."""

import random
from itertools import pairwise

import numpy as np
import pytest

from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.captions import everything
from fewstep.pocket.harder.drawing_quality import drawing_shares, half_score
from fewstep.pocket.harder.exact_answers import RGBArray, exact_answers, open_scenes
from fewstep.pocket.harder.scenes import Scene, random_scene
from pocket_making.harder.degradations import DEGRADATIONS, ladder

Pair = tuple[Scene, tuple[RGBArray, ...]]


@pytest.fixture(scope="module")
def prompts() -> list[Pair]:
    rng = random.Random(4)
    drawn = [random_scene(category, rng, "heldout", (96, 96)) for category in CATEGORIES for _ in range(4)]
    return [(it, exact_answers(it)) for it in drawn]


def test_a_full_prompt_has_an_answer_for_each_light_and_pose(prompts: list[Pair]) -> None:
    for it, answers in prompts:
        quiet = [len(each.values) for each in CATEGORIES[it.category] if each.quiet]
        assert len(answers) == np.prod(quiet)
    it = prompts[0][0]
    assert len(exact_answers(it, everything(it))) == 1
    assert open_scenes(it, frozenset()) is None


def test_exact_pictures_are_well_drawn(prompts: list[Pair]) -> None:
    for it, answers in prompts:
        shares = drawing_shares(answers[-1], answers)
        assert {"nearness", "unity", "grid"} <= set(shares)
        assert min(shares.values()) > 0.85, (it, shares)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_each_degradation_is_worse_the_more_severe_it_is(name: str, prompts: list[Pair]) -> None:
    """The order of at least 99 in 100 pairs of neighbouring levels."""
    right = []
    for _, answers in prompts:
        scores = [half_score(picture, answers) for picture in ladder(name, answers[0], answers[1:])]
        right += [a > b for a, b in pairwise(scores)]
    assert np.mean(right) >= 0.99


def test_each_share_notices_its_own_failing(prompts: list[Pair]) -> None:
    failing = {"noise": "calm", "blend": "unity", "tiles": "grid", "blur": "edges", "saturation": "nearness"}
    for name, share in failing.items():
        lost = []
        for _, answers in prompts:
            exact, *_, severe = ladder(name, answers[0], answers[1:])
            before, after = drawing_shares(exact, answers), drawing_shares(severe, answers)
            lost += [before[share] - after[share]] if share in before and share in after else []
        assert np.mean(lost) > 0.15, name


def test_a_picture_of_another_size_is_refused(prompts: list[Pair]) -> None:
    with pytest.raises(ValueError, match="own size"):
        half_score(np.zeros((64, 64, 3), np.uint8), prompts[0][1])
