"""The pocket world's suites: hundreds of held-out cases, each with its exact answer.

Categories take turns, so the first N cases are as mixed as all of them. No two cases of a suite are the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice, product
from typing import Any

from PIL import Image

from fewstep.bench.drafts import DraftCase, ShippedSuite, SuiteHeading
from fewstep.pocket.captions import caption
from fewstep.pocket.cases import (
    PocketCase,
    edit_case,
    t2i_case,
)
from fewstep.pocket.drafts import distinct_cases, drafts_in_turn
from fewstep.pocket.edits import EDITS
from fewstep.pocket.render import SIZE
from fewstep.pocket.world import (
    CATEGORIES,
    GROUNDS,
    SKIES,
    Landscape,
    Scene,
    attributes,
    category,
    letters,
)
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.task import Task

SEED = 7  # ours: no other examination uses these cases
_Cases = Callable[[int], PocketCase]


def pocket_t2i(per_category: int) -> Iterator[DraftCase]:
    """Landscapes, portraits and signs in turn."""
    return drafts_in_turn([_distinct(_of_category(kind)) for kind in CATEGORIES], per_category)


def pocket_edits(per_kind: int) -> Iterator[DraftCase]:
    """The six kinds of edit in turn."""
    return drafts_in_turn([_distinct(_of_kind(kind)) for kind in EDITS], per_kind)


def pocket_flat_field() -> Iterator[DraftCase]:
    """Landscapes with nothing in them: two gradients and an edge. They are known to the world and not held out: they
    test clean surfaces, not knowledge."""
    for number, (sky, ground) in enumerate(product(SKIES, GROUNDS)):
        scene = Landscape(sky, ground, "none", "none", "none", "none", "none")
        prompt = caption(scene, seeded_random("flat field", number))
        yield DraftCase(f"pocket-flat-{sky}-{ground}", prompt, "gradient", expect=_expected(scene), source="pocket")


def pocket_tiny_text(cases: int) -> Iterator[DraftCase]:
    """Words of three letters: a letter is then 13 x 14 px, the smallest in the world."""
    return islice((draft for draft in _distinct(_of_category("text")) if len(draft.expect["letters"]) == 3), cases)


def _of_category(kind: str) -> _Cases:
    return lambda index: t2i_case(SEED, index, category_=kind)


def _of_kind(kind: str) -> _Cases:
    return lambda index: edit_case(SEED, index, kind=kind)


def _distinct(cases: _Cases) -> Iterator[DraftCase]:
    return map(_draft, distinct_cases(cases))


def _draft(case: PocketCase) -> DraftCase:
    """A prompt has several exact answers (light and pose are free), an edit has one."""
    edit = case.task == "edit"
    return DraftCase(
        id=case.id,
        prompt=case.prompt,
        category=case.category,
        references=case.references,
        target=case.target if edit else None,
        region=None if case.region is None else Image.fromarray(case.region),
        expect=_expected(case.scene) | {"attributes": case.attributes, "changed": list(case.changed)}
        if edit
        else _expected(case.scene),
        source="pocket",
    )


def _expected(scene: Scene) -> dict[str, Any]:
    """The attributes to be seen, and the scene itself: from it a probe renders the exact pictures again."""
    word = letters(scene)
    found = {"attributes": attributes(scene), "scene_category": category(scene), "scene": asdict(scene)}
    return found | ({} if word is None else {"letters": word, "text": [word]})


def _suite(
    name: str, words: str, cases: int, drafts: Callable[[], Iterator[DraftCase]], seeds: int = 1
) -> ShippedSuite:
    task: Task = "edit" if name.endswith("edit") else "t2i"
    return ShippedSuite(SuiteHeading(name, "1", task, seeds, (SIZE, SIZE), "CC0-1.0"), words, cases, drafts, cut=True)


# Found by name through the entry points of pyproject.toml.
T2I = _suite("pocket-t2i", "pocket world: landscapes, portraits, signs; 600 each", 1800, lambda: pocket_t2i(600))
EDIT = _suite("pocket-edit", "pocket world: six kinds of edit; 250 each", 1500, lambda: pocket_edits(250))
FLAT_FIELD = _suite("pocket-flat-field", "pocket world: gradients with nothing in them", 16, pocket_flat_field, seeds=4)
TINY_TEXT = _suite("pocket-tiny-text", "pocket world: its smallest letters", 60, lambda: pocket_tiny_text(60), seeds=2)
DIVERSITY = _suite("pocket-diversity", "pocket world: 50 prompts, 8 seeds each", 50, lambda: pocket_t2i(17), seeds=8)
