"""The harder world's examination on the way of a run: a few held-out cases, drawn with the student as it is.

The examination proper uses other cases (another seed), so a checkpoint that these figures chose is not flattered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from fewstep.backbones.backbone import Backbone
from fewstep.pocket.exam_gallery import Sampler
from fewstep.pocket.harder import probe
from fewstep.pocket.harder.exam import HarderExamSpec, Question
from fewstep.pocket.harder.records import picture_record
from fewstep.pocket.systems import eval_of
from fewstep.roles.student_eval import StudentEvalBuilder, StudentEvalSetup
from fewstep.runtime.task import TASKS

ASKED = HarderExamSpec(cases=12, diversity=0, seed=9)  # ours: 48 prompts and 96 edits
HALVES = ("asked", "drawn")


def reader_eval(folder: Path = probe.READER) -> StudentEvalSetup:
    """An examiner for `fewstep.distill`, with the reader in this folder, the embedded one unless given. `score` is the
    mean of both halves of both tasks.

    Raises:
        ModelError: no reader is there.
    """
    reader, _ = probe.load_reader(folder)
    questions = ASKED.questions()

    def setup(backbone: Backbone) -> StudentEvalBuilder:
        cases = [case for case, _ in questions]
        return eval_of(backbone, cases, lambda sampler: headline(sampler, questions, reader))

    return setup


def harder_eval(backbone: Backbone) -> StudentEvalBuilder:
    """The embedded reader's examiner. The reader is loaded when a run of its world begins, and not before."""
    return reader_eval()(backbone)


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
