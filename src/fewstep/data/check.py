"""`fewstep cases check`: what is in a set of cases, and what is wrong with it. Answers with data; prints nothing."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.cases import Case
from fewstep.data.mixture import Task
from fewstep.data.pictures import digest
from fewstep.data.sources import entries
from fewstep.errors import CaseError


@dataclass(frozen=True)
class Report:
    """counts: usable cases by task and category. duplicates: places (file:line) of cases that say the same, in groups.
    problems: one message for each line, or file, that cannot be used."""

    counts: dict[tuple[Task, str], int]
    duplicates: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...]

    @property
    def usable(self) -> int:
        return sum(self.counts.values())

    @property
    def passed(self) -> bool:
        """Duplicates are worth a look, and no failure."""
        return self.usable > 0 and not self.problems


def check(files: Sequence[Path]) -> Report:
    """Reads every line, and every picture whole."""
    cases: list[Case] = []
    problems: list[str] = []
    for path in files:
        try:
            for entry in entries(path, thorough=True):
                if isinstance(entry, Case):
                    cases.append(entry)
                else:
                    problems.append(str(entry))
        except CaseError as error:
            problems.append(str(error))
    if not cases and not problems:
        problems.append(f"{', '.join(map(str, files))}: no case in it; write one a line")
    counts = Counter((case.task, case.category) for case in cases)
    return Report(dict(sorted(counts.items())), _duplicates(cases), tuple(problems))


def _duplicates(cases: Sequence[Case]) -> tuple[tuple[str, ...], ...]:
    """Same words (whatever their case, width or spacing) about the same pictures (by content)."""
    places: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        prompt = " ".join(unicodedata.normalize("NFKC", case.prompt).casefold().split())
        places.setdefault((prompt, *map(digest, case.references)), []).append(case.where)
    return tuple(tuple(where) for where in places.values() if len(where) > 1)
