"""A study's folder: the paths of its parts, and the study it belongs to. Files only; no model, no recipe.

study.json                   the study as it was started: its plan, its cells' recipes, its seeds runs/CELL-seedN/ run
folders; runs/store is the conditioning store they share examination/sources/         the reference pictures of edits
examination/teachers/NAME/   galleries with verdicts/, one for each teacher examination/CELL-seedN/NNNNNN/   the same
for a run, after this many iterations report/                      what `fewstep study report` writes
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.runtime.errors import StudyError
from fewstep.study.plan import StudyPlan, validate_study

FORMAT = 1


@dataclass(frozen=True)
class StudyFolder:
    """The paths of one study's folder."""

    folder: Path

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    @property
    def examination(self) -> Path:
        return self.folder / "examination"

    def examination_of(self, cases: int) -> Path:
        """Where examinations of so many cases a category are kept while the study has another number."""
        return self.folder / f"examination-of-{cases}-cases"

    @property
    def sources(self) -> Path:
        return self.examination / "sources"

    def teacher(self, name: str) -> Path:
        """A teacher's gallery."""
        return self.examination / "teachers" / name

    def student(self, run: str, iteration: int) -> Path:
        """A run's gallery after this many iterations."""
        return self.examination / run / f"{iteration:06d}"

    def to_make_again(self, run: str) -> str:
        """What a message says of a run that is no use as it is. Its pictures go too: they would be taken for the new
        run's."""
        return f"remove {self.run(run)} and {self.examination / run}, and the same command makes the run again"

    @property
    def record(self) -> Path:
        return self.folder / "study.json"


@dataclass(frozen=True)
class StudyManifest:
    """The content of study.json. described: name, world, protocol, teachers, and each cell's recipe by dotted key."""

    plan: StudyPlan
    world: str
    iterations: int
    definition: Mapping[str, Any]
    seeds: tuple[int, ...]
    covers: Mapping[str, Mapping[str, Any]]  # specialised teacher -> the tasks and categories it teaches; null: all

    @property
    def moments(self) -> tuple[int, ...]:
        return self.plan.protocol.iterations_of(self.iterations)

    def run(self, cell: str, seed: int) -> str:
        return f"{cell}-seed{seed}"


def open_study(folder: Path) -> StudyManifest:
    """An existing study.

    Raises:
        StudyError: there is none, or it is of another version.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise StudyError(f"{folder} is no study folder: it has no study.json. Name the --out of fewstep study run")
    try:
        content = json.loads(path.read_text())
        form, raw, definition = content["format"], content["plan"], content["described"]
        told = content["iterations"], definition, tuple(content["seeds"]), content["covers"]
        world, _ = definition["world"], definition["protocol"]["cases"]
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} cannot be read ({error!r}); begin the study anew in another --out") from error
    if form != FORMAT:
        raise StudyError(f"{path} has format {form}, this version reads {FORMAT}; run the study in another folder")
    return StudyManifest(validate_study(raw, str(path)), world, *told)
