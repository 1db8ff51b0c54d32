"""`pocket:TASK:N`: the first N training cases of the pocket world."""

from pathlib import Path

from fewstep.backbones.embedded import POCKET
from fewstep.pocket.cases import PocketCase, edit_case, t2i_case
from fewstep.pocket.drawn_cases import DrawnWorld
from fewstep.runtime.task import Task

SEED = 0


def training_case_of_pocket(task: Task, index: int) -> PocketCase:
    """A pure function of the index."""
    return (t2i_case if task == "t2i" else edit_case)(SEED, index, split="train")


WORLD = DrawnWorld(POCKET, training_case_of_pocket, marked=6)


def pocket_file(source: str, task: Task | None, cache: Path) -> Path:
    """The canonical file of a source, as `DrawnWorld.cases_file` says."""
    return WORLD.cases_file(source, task, cache)
