"""The probe's reading of one picture, as a score from 1 to 5."""

from typing import Any

import pytest
from PIL import Image

from fewstep.pocket import score
from fewstep.pocket.cases import (
    PocketCase,
    edit_case,
    t2i_case,
)


def judgement(case: PocketCase, picture: Image.Image, **read: Any) -> dict[str, Any]:
    """The verdict where the probe reads everything as the case has it, but for what is given."""
    record = {"case": case.id, "seed": 1, "task": case.task, "category": case.category}
    record |= {"right": dict.fromkeys(case.attributes, True) | read.pop("right", {}), "letters_exact": True} | read
    return score.verdict(picture, case, record, "reader")


def test_a_prompts_word_is_one_thing_among_its_attributes() -> None:
    sign = t2i_case(1, 0, category_="text")
    assert len(sign.attributes) == 4
    assert judgement(sign, sign.target)["score"] == 5
    assert judgement(sign, sign.target, letters_exact=False)["score"] == pytest.approx(1 + 4 * 4 / 5)
    line = judgement(sign, sign.target, letters_exact=False, right={"board": False})
    assert line["score"] == pytest.approx(1 + 4 * 3 / 5)
    assert (line["judge"], line["status"], line["case"], line["sub_scores"]) == ("probe", "ok", sign.id, {"asked": 3.4})


def test_an_edit_is_worth_its_weakest_part() -> None:
    case = next(c for c in (edit_case(1, i, kind="scene") for i in range(50)) if len(c.changed) == 1)
    (change,), rest = case.changed, [name for name in case.attributes if name not in case.changed]
    assert judgement(case, case.target)["score"] == 5
    assert judgement(case, case.target, right={change: False})["score"] == 1  # the source as it was
    assert judgement(case, case.target, right=dict.fromkeys(rest, False), letters_exact=False)["score"] == 1
    half = judgement(case, case.target, right={rest[0]: False})
    assert half["sub_scores"]["changed"] == 5
    assert 1 < half["score"] == half["sub_scores"]["kept"] < 5


@pytest.mark.parametrize("kind", ["perceptual", "style"])
def test_where_every_pixel_may_change_the_exact_answer_counts(kind: str) -> None:
    case = edit_case(1, 0, kind=kind)
    (source,) = case.references
    assert judgement(case, case.target)["score"] == 5
    assert judgement(case, source)["score"] == 1
    blend = Image.blend(source, case.target, 0.75)
    assert judgement(case, blend)["score"] == pytest.approx(4, abs=0.1)


def test_a_verdicts_key_is_of_all_that_it_depends_on() -> None:
    one, other = t2i_case(1, 0), t2i_case(1, 3)
    keys = {judgement(c, p)["key"] for c in (one, other) for p in (one.target, other.target)}
    assert len(keys) == 4
    assert judgement(one, one.target) == judgement(one, one.target)
