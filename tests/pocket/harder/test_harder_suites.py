"""The harder world's suites: held out, of one size, no case twice, and the ones that its runs are ranked on."""

from itertools import islice

import numpy as np
from PIL import Image

from fewstep.bench.suites import open_suite
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS
from fewstep.pocket.harder.suites import harder_edits, harder_prompts
from fewstep.run.self_exam.rank import WORLD_SUITES


def test_categories_take_turns_and_no_case_comes_twice() -> None:
    prompts, edits = list(islice(harder_prompts(), 40)), list(islice(harder_edits(), 24))
    assert [draft.category for draft in prompts[:8]] == [*CATEGORIES, *CATEGORIES]
    assert [draft.category for draft in edits[:8]] == list(EDIT_KINDS)
    assert len({draft.id for draft in (*prompts, *edits)}) == 64
    assert len({draft.prompt for draft in prompts}) == 40
    assert {len(draft.references) for draft in edits} == {1, 2, 3}
    pictures = [picture for draft in edits for picture in (*draft.references, draft.target) if picture is not None]
    assert {picture.size for picture in pictures} == {(96, 96)}


def test_a_suite_opens_with_targets_and_regions_that_fit() -> None:
    suite = open_suite("pocket-harder-edit@8")
    assert suite.size == (96, 96)
    for question in suite.questions:
        region = suite.region(question)
        assert region is not None
        source, target, mask = (
            np.asarray(Image.open(path).convert("RGB"), dtype=int)
            for path in (question.case.references[0], question.case.target, region)
        )
        assert not ((np.abs(source - target).max(-1) > 1) & (mask.max(-1) == 0)).any(), question.case.id
    assert suite.name.partition("@")[0] in WORLD_SUITES["pocket-harder"].values()
