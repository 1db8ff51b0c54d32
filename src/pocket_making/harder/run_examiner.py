"""The harder world's examination on the way of a run: a few held-out cases, drawn with the student as it is.

The examination proper uses other cases (another seed), so a checkpoint that these figures chose is not flattered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from fewstep.backbones.backbone import Backbone
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.sigmas import SigmaGrid
from fewstep.pocket.exam_gallery import Sampler
from fewstep.pocket.systems import ConditioningCache, sampler_of
from fewstep.roles.network import Network
from fewstep.roles.student_eval import StudentEval, StudentEvalBuilder, StudentEvalSetup
from fewstep.runtime.device import autocast
from fewstep.runtime.task import TASKS, Task
from pocket_making.harder import probe
from pocket_making.harder.exam import HarderExamSpec, Question
from pocket_making.harder.records import picture_record

ASKED = HarderExamSpec(cases=12, diversity=0, seed=9)  # ours: 48 prompts and 96 edits
GUIDANCE: Mapping[Task, Guidance] = {"t2i": NO_GUIDANCE, "edit": NO_GUIDANCE}
HALVES = ("asked", "drawn")


def reader_eval(folder: Path, spec: HarderExamSpec | None = None) -> StudentEvalSetup:
    """An examiner for `fewstep.distill`, with the reader in this folder; it asks `ASKED` if no `spec` is given. `score`
    is the mean of both halves of both tasks.

    Raises:
        ModelError: no reader is there.
    """
    reader, _ = probe.load_reader(folder)
    questions = (spec or ASKED).questions()

    def setup(backbone: Backbone) -> StudentEvalBuilder:
        encoded = ConditioningCache(backbone)
        for case, _ in questions:
            encoded(case)

        def for_student(student: Network, grid: SigmaGrid, precision: str) -> StudentEval:
            @contextmanager
            def inside() -> Iterator[None]:
                with student.active(), autocast(backbone.device, precision):
                    yield

            sampler = sampler_of(backbone, student.transformer, grid, GUIDANCE, encoded, inside)
            return lambda iteration: headline(sampler, questions, reader)

        return for_student

    return setup


def headline(sampler: Sampler, questions: Sequence[Question], reader: probe.Reader) -> dict[str, float]:
    """Mean figures of a sampler on these questions; nothing is stored."""
    cases, seeds = [case for case, _ in questions], [seed for _, seed in questions]
    pictures = sampler(cases, seeds)
    records = [
        picture_record(picture, seen, case, seed)
        for picture, seen, (case, seed) in zip(pictures, probe.read(reader, pictures), questions, strict=True)
    ]
    found = {
        f"{task}_{half}": fmean(
            record[half] for record in records if record["task"] == task and record[half] is not None
        )
        for task in TASKS
        for half in HALVES
    }
    words = [record["word"] for record in records if record["task"] == "t2i" and record["word"] is not None]
    preserved = [record["preserved_db"] for record in records if record["preserved_db"] is not None]
    return {"score": fmean(found.values()), **found, "words": fmean(words), "preserved_psnr": fmean(preserved)}
