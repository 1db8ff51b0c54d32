"""Sources of cases that are no path: in `pocket:t2i:40` the scheme `pocket` says who reads the rest.

A case source is a function from the text of a recipe's `source` to a file or folder of cases, made where it is not
there yet. So its cases are checked, numbered and cached as a user's own file is. Others add theirs
(docs/extending.md).
"""

import re
from pathlib import Path
from typing import Protocol

from fewstep.runtime.plugins import ExtensionPoint
from fewstep.runtime.task import Task

SCHEME = re.compile(r"(?P<name>[a-z][a-z0-9+.-]+):.+")


class CaseSource(Protocol):
    """One text has to give the same cases each time: a study tells its cells apart by texts."""

    def __call__(self, source: str, task: Task | None, cache: Path) -> Path:
        """A file or folder in one of the case formats.

        Args:
            source: as the recipe has it, with the scheme. task: the one it stands under; None asks for all its cases.
            cache: a folder that may be filled, the same one each time that the recipe is run.

        Raises:
            CaseError: the text makes no sense, or the cases cannot be had.
        """


def _problem(name: str, thing: object) -> str | None:
    if not SCHEME.fullmatch(f"{name}:x"):
        return "has a name that cannot be a scheme; two or more small letters and digits can"
    return None if callable(thing) else "is no function of (source, task, cache)"


CASE_SOURCES: ExtensionPoint[CaseSource] = ExtensionPoint("fewstep.case_sources", "case source", _problem)


def scheme_of(source: str) -> str | None:
    """What stands before the first colon and can name a case source, whether or not there is one of that name."""
    found = SCHEME.fullmatch(source)
    return found["name"] if found else None


def names_case_source(source: str) -> bool:
    """Whether the text is a case source's, and not a path."""
    return scheme_of(source) in CASE_SOURCES.names()
