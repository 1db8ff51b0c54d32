"""What a demo is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.pocket.exam_gallery import AskedCase
from fewstep.pocket.known_world import KnownWorld
from fewstep.run.extensions import NO_EXTENSIONS, Extensions
from fewstep.run.recipe import Recipe
from fewstep.runtime.reporter import Reporter

Question = tuple[AskedCase, int]


@dataclass(frozen=True)
class Demo:
    """A teacher of a pocket world that is distilled and examined.

    Args:
        recipe: read when the demo begins.
        examine: (student folder, folder, reporter) -> figures of the student and its teacher, kept in the folder.
        columns: the systems that are shown, with their headings.
        shown: the questions that the overview shows, one of each category and kind of edit.
        words: what the student knows.
        extensions: of the run; the examiner of its world, where the teacher is no embedded one.
    """

    recipe: Callable[[], Recipe]
    examine: Callable[[Path, Path, Reporter], dict[str, Any]]
    columns: Mapping[str, str]
    shown: Callable[[], Sequence[Question]]
    words: KnownWorld
    extensions: Extensions = NO_EXTENSIONS


def first_of_each_kind(questions: Sequence[Question]) -> Sequence[Question]:
    """The first of each category and kind of edit."""
    found: dict[tuple[str, str], Question] = {}
    for case, seed in questions:
        found.setdefault((case.task, case.category), (case, seed))
    return list(found.values())
