"""One picture examined: the shares that are known."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.pocket.harder import cases, probe
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.figures import FIGURES
from fewstep.pocket.harder.records import picture_record


def seen(case: cases.HarderCase, **instead: str) -> dict[str, str]:
    """Every answer right, but for some."""
    right = probe.right_answers(case.scene, None) | {"word": case.scene.word, "style": case.style or probe.PLAIN}
    return right | {name.replace("__", "."): value for name, value in instead.items()}


def record(case: cases.HarderCase, picture: Image.Image | None = None, **instead: str) -> dict[str, Any]:
    return picture_record(picture or case.target, seen(case, **instead), case, 1)


def edits(kind: str, count: int = 8) -> list[cases.HarderCase]:
    return [cases.instruction_case(1, index, kind) for index in range(count)]


@pytest.mark.parametrize("category", list(CATEGORIES))
def test_an_exact_picture_has_all_of_both_halves(category: str) -> None:
    for case in (cases.prompt_case(1, index, category) for index in range(3)):
        found = record(case)
        assert found["asked"] == 1
        assert (found["drawn"] is None) == (case.length == "short")
        assert case.length == "short" or (found["drawn"] > 0.9 and found["exact_db"] == 60)


def test_a_word_is_one_thing_among_what_a_prompt_names() -> None:
    case = cases.prompt_case(1, 0, "text")
    wrong = record(case, word="Z" + case.scene.word)
    assert wrong["asked"] == pytest.approx(1 - 1 / len(case.asked))
    assert (wrong["word"], wrong["attributes"], wrong["letters"]) == (False, 1, len(case.scene.word))


def test_what_a_prompt_leaves_open_is_not_asked() -> None:
    case = next(c for c in (cases.prompt_case(1, index, "portrait") for index in range(9)) if c.length == "short")
    free = next(name for name, _ in case.scene.named if name not in case.named)
    assert record(case, **{f"portrait__{free}": "something else"})["asked"] == 1
    assert record(case, **{f"portrait__{case.asked[0]}": "something else"})["asked"] < 1


@pytest.mark.parametrize("kind", ["scene", "identity", "two-pictures"])
def test_an_edit_is_worth_its_weakest_part(kind: str) -> None:
    case = next(case for case in edits(kind) if len(case.asked) == 1)
    kept = next(name for name in case.kept if name != cases.WORD)
    undone = record(case, case.references[0], **{f"{case.scene.category}__{case.asked[0]}": "as before"})
    assert undone["asked"] == 0
    assert undone["sides"] == {"changed": 0, "kept": 1}
    spoilt = record(case, **{f"{case.scene.category}__{kept}": "something else"})
    assert spoilt["asked"] == spoilt["sides"]["kept"] == pytest.approx(1 - 1 / len(case.kept))
    assert record(case)["asked"] == 1


@pytest.mark.parametrize("kind", cases.WHOLE)
def test_where_every_pixel_may_change_the_exact_answer_counts(kind: str) -> None:
    case = edits(kind, 1)[0]
    assert record(case)["sides"]["closed"] == 1
    assert record(case, case.references[0])["asked"] == 0
    assert record(case, Image.blend(case.references[0], case.target, 0.75))["asked"] == pytest.approx(0.75, abs=0.02)
    assert record(case)["preserved_db"] is None


def test_a_style_is_not_taken_for_that_of_the_hair() -> None:
    case = next(case for case in edits("style", 12) if case.scene.category == "portrait")
    assert record(case)["asked"] == 1
    assert record(case, style=probe.PLAIN)["asked"] == 0
    hair = next(case for case in edits("identity", 40) if case.asked == ("style",))
    assert record(hair, style="sepia")["asked"] == 1
    assert record(hair, portrait__style="bald")["asked"] == 0


def test_a_shift_of_the_rest_is_measured() -> None:
    found = []
    for case in edits("object", 12):
        moved = Image.fromarray(np.roll(np.asarray(case.target), 2, axis=1))
        found.append((record(case)["shift_px"], record(case, moved)["shift_px"]))
    measured = [(still, shifted) for still, shifted in found if still is not None and shifted is not None]
    assert len(measured) > 3
    assert np.median([still for still, _ in measured]) < 0.1
    assert np.median([shifted for _, shifted in measured]) == pytest.approx(2, abs=0.4)


def test_each_figure_applies_to_some_case_and_none_to_all() -> None:
    drawn = [cases.prompt_case(1, index, category) for category in CATEGORIES for index in range(6)]
    drawn += [case for kind in cases.EDIT_KINDS for case in edits(kind, 6)]
    records = [record(case) for case in drawn]
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    for figure in FIGURES:
        values = [value for each in records if (value := figure.of(each)) is not None]
        assert 0 < len(values) < len(records), figure.key
        if figure.unit == "of 5":
            assert 1 <= min(values) <= max(values) <= 5
        elif not figure.unit:
            assert 0 <= min(values) <= max(values) <= 1
