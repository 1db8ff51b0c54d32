"""The cases that a run examines itself with, frozen in its folder.

    examination/set.json       what was chosen, and how many of it; written last
    examination/cases.jsonl    a line for each case: the case, its seeds, and the words that its prompt puts in quotes
    examination/references/    copies of the pictures that edits start from

A run that goes on, and everyone who looks at it later, reads this folder and no longer the suite.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewstep.data.cases import Case, case_of, record_of
from fewstep.data.pictures import file_digest
from fewstep.run.self_exam.ranked import FOLDER
from fewstep.runtime import durable
from fewstep.runtime.errors import CaseError, RunError
from fewstep.runtime.task import Task

FORMAT = 1
SET, CASES = "set.json", "cases.jsonl"


@dataclass(frozen=True)
class ExamCase:
    """One case, the seeds that it is drawn with, and the words that must be read in the answer."""

    case: Case
    seeds: tuple[int, ...]
    text: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Names its files."""
        plain = re.sub(r"[^\w.-]", "-", self.case.id)[:80]
        return f"{plain}-{hashlib.blake2b(self.case.id.encode(), digest_size=3).hexdigest()}"


@dataclass(frozen=True)
class FrozenSet:
    """The set of one run. identity: a hash of its cases, the bytes of their pictures, and their seeds."""

    folder: Path
    cases: tuple[ExamCase, ...]

    @property
    def identity(self) -> str:
        return identity_of(self.cases)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(dict.fromkeys(one.case.task for one in self.cases))

    def picture(self, who: str, one: ExamCase, seed: int) -> Path:
        """Where the answer of the teacher, or of a student, to a case is kept."""
        return self.folder / "pictures" / who / f"{one.stem}-{seed}.png"

    @property
    def pictures(self) -> int:
        """How many one examination draws."""
        return sum(len(one.seeds) for one in self.cases)


def identity_of(cases: Sequence[ExamCase]) -> str:
    told = [
        (one.seeds, case.id, case.task, case.prompts, case.category, case.height, case.width, *digests)
        for one in cases
        for case, digests in ((one.case, map(file_digest, one.case.references)),)
    ]
    return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


def freeze(run: Path, cases: Sequence[ExamCase], asked: str) -> FrozenSet:
    """Writes the set into the run folder, once; later it is read from there.

    Args:
        asked: what the recipe asked for, in a form that can be compared.

    Raises:
        RunError: as `frozen_set`.
    """
    held = frozen_set(run, asked)
    if held is not None:
        return held
    folder = run / FOLDER
    kept = [_kept(one, folder) for one in cases]
    lines = [{"case": record_of(one.case, folder), "seeds": one.seeds, "text": one.text} for one in kept]
    durable.make_folder(folder)
    durable.write_atomically(folder / CASES, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    told = {"format": FORMAT, "identity": identity_of(kept), "cases": len(kept), "asked": asked}
    durable.write_atomically(folder / SET, json.dumps(told, indent=1) + "\n")
    return FrozenSet(folder, tuple(kept))


def frozen_set(run: Path, asked: str | None = None) -> FrozenSet | None:
    """The set in a run folder; None if it has none.

    Args:
        asked: what a recipe asks for now; None takes whatever is there.

    Raises:
        RunError: it cannot be read, is not as it was written, or something else was asked for when the run began.
            Figures of two sets could not be compared.
    """
    folder = run / FOLDER
    if not (folder / SET).is_file():
        return None
    try:
        told = json.loads((folder / SET).read_text())
        lines = list(durable.read_jsonl(folder / CASES))
        cases = [_read(line, folder, f"{folder / CASES}:{n}") for n, line in enumerate(lines, 1)]
        found = FrozenSet(folder, tuple(cases))
        whole, same = told["identity"] == found.identity, asked is None or told["asked"] == asked
    except (ValueError, KeyError, TypeError, CaseError) as error:
        raise RunError(f"{folder} cannot be read ({error}); remove that folder, and the set is frozen again") from error
    if not whole:
        raise RunError(f"{folder} is not as it was written; restore it, or remove it and the set is frozen again")
    if not same:
        raise RunError(
            f"{folder} holds the set that this run began with ({len(found.cases)} cases), and examine now asks for "
            "another (t2i, edit, prompts, edits or seeds); put it back, or remove that folder and begin a new set"
        )
    return found


def _kept(one: ExamCase, folder: Path) -> ExamCase:
    """The case with its pictures in the run folder, byte by byte, named by their content."""
    places = []
    for path in one.case.references:
        place = folder / "references" / f"{file_digest(path)}{path.suffix.lower()}"
        durable.make_folder(place.parent)
        if not place.is_file():
            durable.write_atomically(place, path.read_bytes())
        places.append(place)
    return replace(one, case=replace(one.case, references=tuple(places), target=None))


def _read(line: Any, folder: Path, where: str) -> ExamCase:
    case = case_of(line["case"], folder, where, "")
    return ExamCase(case, tuple(map(int, line["seeds"])), tuple(map(str, line["text"])))
