"""`fewstep cases check`: what a set of cases holds, and what is wrong with it. Returns data and prints nothing."""

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.data.cases import Case
from fewstep.data.overlap import (
    Overlap,
    overlaps,
    suite_prompts,
)
from fewstep.data.pictures import file_digest
from fewstep.data.sources import entries_of
from fewstep.runtime.errors import CaseError
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class CasesReport:
    """counts: usable cases by task and category. duplicates: places (file:line) of cases that say the same, in groups.
    overlap: cases that share words with a benchmark. problems_of: by file or folder, one message for each line that
    cannot be used. ignored: keys that mean nothing here, and in how many cases they stand."""

    counts: dict[tuple[Task, str], int]
    duplicates: tuple[tuple[str, ...], ...]
    overlap: tuple[Overlap, ...]
    problems_of: Mapping[str, tuple[str, ...]]
    ignored: Mapping[str, int]

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(problem for problems in self.problems_of.values() for problem in problems)

    @property
    def usable(self) -> int:
        return sum(self.counts.values())

    @property
    def passed(self) -> bool:
        """Duplicates and overlap are worth a look, and no failure."""
        return self.usable > 0 and not self.problems_of


def check_sources(
    sources: Sequence[str | Path],
    against: Path | None = None,
    on_progress: Callable[[int], object] = lambda count: None,
    refuse: Callable[[Case], object] = lambda case: None,
) -> CasesReport:
    """Reads every line, and every picture whole. Pictures in archives are unpacked into a temporary folder.

    Args:
        on_progress: called with the number of entries read.
        refuse: raises a CaseError for a case that cannot be used for a further reason, such as its model's limits.

    Raises:
        CaseError: `against` holds no prompts.
    """
    suite = suite_prompts(against) if against is not None else []
    with tempfile.TemporaryDirectory(prefix="fewstep-check-") as folder:
        cases, problems = _read(sources, Path(folder), on_progress, refuse)
        duplicates = _duplicates(cases)
    if not cases and not problems:
        named = ", ".join(map(str, sources))
        problems[named] = [f"{named}: no case in it; write one a line"]
    counts = Counter((case.task, case.category) for case in cases)
    return CasesReport(
        counts=dict(sorted(counts.items())),
        duplicates=duplicates,
        overlap=tuple(overlaps(cases, suite)),
        problems_of={file: tuple(told) for file, told in problems.items()},
        ignored=dict(Counter(key for case in cases for key in case.ignored)),
    )


def _read(
    sources: Sequence[str | Path],
    folder: Path,
    on_progress: Callable[[int], object],
    refuse: Callable[[Case], object],
) -> tuple[list[Case], dict[str, list[str]]]:
    """Cases, and problems by file or folder."""
    cases: list[Case] = []
    problems: dict[str, list[str]] = {}
    count = 0
    for source in sources:
        files = [str(source)]  # the last one is being read
        try:
            for entry in entries_of(str(source), folder, True, lambda path, files=files: files.append(str(path))):  # type: ignore[misc]
                if (fault := _fault(entry, refuse)) is not None:
                    problems.setdefault(files[-1], []).append(fault)
                elif isinstance(entry, Case):
                    cases.append(entry)
                on_progress(count := count + 1)
        except CaseError as error:
            problems.setdefault(files[-1], []).append(str(error))
    return cases, problems


def _fault(entry: Case | CaseError, refuse: Callable[[Case], object]) -> str | None:
    if isinstance(entry, CaseError):
        return str(entry)
    try:
        refuse(entry)
    except CaseError as error:
        return str(error)
    return None


def _duplicates(cases: Sequence[Case]) -> tuple[tuple[str, ...], ...]:
    """Groups of cases with the same words (case, width and spacing aside) about the same pictures (compared by
    content)."""
    places: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        prompt = " ".join(unicodedata.normalize("NFKC", case.prompt).casefold().split())
        places.setdefault((prompt, *map(file_digest, case.references)), []).append(case.where)
    return tuple(tuple(where) for where in places.values() if len(where) > 1)
