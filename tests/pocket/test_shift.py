"""The figure for whether edits move the picture finds moves that are there, and none that are not."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import shift as moved

from fewstep.backbones.embedded import POCKET
from fewstep.pocket.cases import PocketCase, edit_case
from fewstep.pocket.shift import largest_rectangle, shift
from fewstep.run.pocket_exam import teacher_guidance
from fewstep.sample.pictures import generate_pictures, open_model

KINDS = ("object", "text", "identity")  # edits that leave most of the picture alone


def cases(count: int) -> list[PocketCase]:
    return [edit_case(1, i, kind=kind) for kind in KINDS for i in range(count)]


def shifts(cases: list[PocketCase], results: list[Image.Image]) -> list[float]:
    found = [shift(c.references[0], r, c.region) for c, r in zip(cases, results, strict=True) if c.region is not None]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("by", [(0.0, 0.0), (0.5, 0.0), (0.0, 1.0), (-1.0, 2.0)])
def test_a_known_shift_is_found(by: tuple[float, float]) -> None:
    asked = cases(6)
    results = [
        Image.fromarray(
            moved(np.asarray(c.target).astype(float), (*by, 0), mode="nearest").clip(0, 255).astype(np.uint8)
        )
        for c in asked
    ]
    found = shifts(asked, results)
    assert len(found) > 6
    assert np.median(found) == pytest.approx(np.hypot(*by), abs=0.25)


def test_the_largest_rectangle() -> None:
    free = np.ones((64, 64), bool)
    free[:30] = False
    free[40, 10] = False
    assert largest_rectangle(free) == (slice(30, 64), slice(11, 64))
    assert largest_rectangle(np.zeros((64, 64), bool)) is None
    assert largest_rectangle(~np.ones((64, 64), bool) | (np.arange(64) < 10)) is None


def test_edits_of_the_pocket_teacher_stay_where_they_were() -> None:
    model, asked = open_model(POCKET), cases(2)
    guidance = teacher_guidance()["edit"]
    results = [
        generate_pictures(model, [c.prompt], c.references, seed=i, steps=8, guidance=guidance)[0]
        for i, c in enumerate(asked)
    ]
    assert np.median(shifts(asked, results)) < 0.25
