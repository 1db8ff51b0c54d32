"""A suite: a frozen set of questions to systems. It has a name, a version, and a hash of every case and its pictures.

Seeds are a pure function of (case, k), the same for every model, so two systems are compared picture by picture.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.data.cases import Case
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class Question:
    """One case and the seeds that it is drawn with. expect: what an answer is checked against (docs/suites.md);
    `region` is relative to the suite's folder."""

    case: Case
    expect: Mapping[str, Any]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Suite:
    """size: (height, width) in pixels of every answer whose case states none; None leaves it to the model."""

    name: str
    version: str
    hash: str
    task: Task
    seeds: int
    size: tuple[int, int] | None
    license: str | None
    folder: Path
    questions: tuple[Question, ...]

    @property
    def identity(self) -> dict[str, str]:
        """What a gallery states about the suite it answers."""
        return {"name": self.name, "version": self.version, "hash": self.hash}

    @property
    def categories(self) -> dict[str, int]:
        """The number of cases in each category, in the order of their first case."""
        counts: dict[str, int] = {}
        for question in self.questions:
            counts[question.case.category] = counts.get(question.case.category, 0) + 1
        return counts

    def region(self, question: Question) -> Path | None:
        """The mask of the part that an edit may change (white), as large as the answer."""
        name = question.expect.get("region")
        return None if name is None else self.folder / str(name)


def seed_of(case: str, k: int) -> int:
    """The k-th seed of a case: 31 bits, which every sampler takes."""
    digest = hashlib.blake2b(f"{case}/{k}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
