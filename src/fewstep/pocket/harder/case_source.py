"""`pocket-harder:TASK:N`: the first N training cases of the harder world: exact prompts and edits of train scenes."""

from __future__ import annotations

from pathlib import Path

from fewstep.backbones.embedded import HARDER
from fewstep.pocket.drawn_cases import DrawnWorld
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS, HarderCase, instruction_case, prompt_case
from fewstep.runtime.task import Task

SEED = 0


def training_case_of_harder(task: Task, index: int) -> HarderCase:
    """Categories, or kinds of edit, take turns; so do the lengths of each category's prompts."""
    if task == "t2i":
        return prompt_case(SEED, index // len(CATEGORIES), list(CATEGORIES)[index % len(CATEGORIES)], "train")
    return instruction_case(SEED, index // len(EDIT_KINDS), EDIT_KINDS[index % len(EDIT_KINDS)], "train")


WORLD = DrawnWorld(HARDER, training_case_of_harder, marked=16, sized=True)


def harder_file(source: str, task: Task | None, cache: Path) -> Path:
    """The canonical file of a source, as `DrawnWorld.cases_file` says."""
    return WORLD.cases_file(source, task, cache)
