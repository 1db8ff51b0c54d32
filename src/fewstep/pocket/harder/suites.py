"""The harder world's suites: held-out prompts and edits of 96 x 96 px, each with its exact answer.

Categories take turns, so the first N cases are as mixed as all of them. No two cases of a suite are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

from PIL import Image

from fewstep.bench.drafts import DraftCase, ShippedSuite, SuiteHeading
from fewstep.pocket.drafts import distinct_cases, drafts_in_turn
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS, HarderCase, instruction_case, prompt_case
from fewstep.runtime.task import Task

SEED = 7  # ours: no other examination uses these cases
SIDE = 96  # px: a suite has one size
PROMPTS, EDITS = 100, 50  # of each category, and of each kind


def harder_prompts() -> Iterator[DraftCase]:
    """The four categories in turn."""
    return drafts_in_turn([distinct_drafts(category, prompt_case) for category in CATEGORIES], PROMPTS)


def harder_edits() -> Iterator[DraftCase]:
    """The eight kinds of edit in turn."""
    return drafts_in_turn([distinct_drafts(kind, instruction_case) for kind in EDIT_KINDS], EDITS)


def distinct_drafts(kind: str, draw: Callable[[int, int, str], HarderCase]) -> Iterator[DraftCase]:
    """The cases of the suite's size."""
    return (
        as_draft(case) for case in distinct_cases(lambda index: draw(SEED, index, kind)) if case.size == (SIDE, SIDE)
    )


def as_draft(case: HarderCase) -> DraftCase:
    """A prompt may have several exact answers, an edit has one. `expect` holds what is asked for, and the scene."""
    edit = case.task == "edit"
    values = dict(case.scene.named)
    attributes = {name: values[name] for name in case.asked if name in values}
    expect = {"attributes": attributes, "scene_category": case.scene.category, "scene": asdict(case.scene)}
    changed = {"changed": list(case.asked)} if edit else {}
    word = {"letters": case.scene.word, "text": [case.scene.word]} if case.scene.word else {}
    region = None if case.region is None else Image.fromarray(case.region)
    return DraftCase(
        id=case.id,
        prompt=case.prompt,
        category=case.category,
        references=case.references,
        target=case.target if edit else None,
        region=region,
        expect=expect | changed | word,
        source="pocket-harder",
    )


def shipped(task: Task, words: str, cases: int, drafts: Callable[[], Iterator[DraftCase]]) -> ShippedSuite:
    heading = SuiteHeading(f"pocket-harder-{task}", "1", task, 1, (SIDE, SIDE), "CC0-1.0")
    return ShippedSuite(heading, words, cases, drafts, cut=True)


# Found by name through the entry points of pyproject.toml.
T2I = shipped("t2i", "harder world: four categories; 100 prompts each", 400, harder_prompts)
EDIT = shipped("edit", "harder world: eight kinds of edit; 50 each", 400, harder_edits)
