"""Sources of cases that are not paths. In `pocket:t2i:40` the scheme `pocket` names the case source that reads the
rest.

A case source is a function from the text of a recipe's `source` to a file or folder of cases. It writes them if they do
not exist yet. The result is checked, numbered and cached like a user's own file. Other packages can add theirs
(docs/extending.md).
"""

import re
from pathlib import Path
from typing import Protocol

from fewstep.runtime.plugins import ExtensionPoint
from fewstep.runtime.task import Task

SCHEME = re.compile(r"(?P<name>[a-z][a-z0-9+.-]+):.+")


class CaseSource(Protocol):
    """The same text must give the same cases every time: a study tells its cells apart by these texts."""

    def __call__(self, source: str, task: Task | None, cache: Path) -> Path:
        """A file or folder in one of the case formats.

        Args:
            source: the text as the recipe has it, with the scheme.
            task: the task that the recipe lists the source under; None asks for all its cases.
            cache: a folder that may be filled; it is the same one each time the recipe is run.

        Raises:
            CaseError: the text makes no sense, or the cases cannot be had.
        """


def _problem(name: str, thing: object) -> str | None:
    if not SCHEME.fullmatch(f"{name}:x"):
        return "has a name that cannot be a scheme; two or more lower-case letters and digits can"
    return None if callable(thing) else "is no function of (source, task, cache)"


CASE_SOURCES: ExtensionPoint[CaseSource] = ExtensionPoint("fewstep.case_sources", "case source", _problem)


def scheme_of(source: str) -> str | None:
    """The text before the first colon if it can name a case source, whether or not a source of that name exists."""
    found = SCHEME.fullmatch(source)
    return found["name"] if found else None


def names_case_source(source: str) -> bool:
    """Whether the text names a case source and is not a path."""
    return scheme_of(source) in CASE_SOURCES.names()
