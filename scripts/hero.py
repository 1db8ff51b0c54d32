"""The picture on the first page: cases in which the teacher fails at 4 steps, and the student does not.

`python scripts/hero.py runs/demo/student` draws held-out pocket cases with the teacher at 4 steps and with the student.
It keeps those where the probe finds the teacher wrong and the student right in everything that was asked. Of each kind
it takes the one whose two pictures differ most, among those that the teacher's full sampler draws right. So the rows
are chosen: docs/results.md says how often each system is right over all cases.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.pocket.cases import PocketCase
from fewstep.pocket.exact_answers import nearest_answer
from fewstep.pocket.exam import ExamSpec
from fewstep.pocket.measure import pixels_of, psnr_8bit
from fewstep.pocket.probe import Probe
from fewstep.pocket.systems import ConditioningCache, system_of
from fewstep.run.pocket_exam import STEPS, teacher_guidance
from fewstep.runtime.task import TASKS
from fewstep.sample.pictures import open_model
from fewstep.sample.sheet import SheetRow, contact_sheet

KINDS = ("portrait", "text", "object", "identity")  # four rows, which fit a screen
TRIED = 8  # of each kind, the clearest failures
CLEAN_DB = 29.0  # ours: below 26 a picture may be a blend of two answers
SEED = 21  # of the cases: neither the examination's nor the run's own
HEADINGS = ("source", "Teacher, 40 steps", "Teacher, 4 steps", "Student, 4 steps")


def asked_for(record: dict[str, Any]) -> bool:
    """Everything that was asked is there."""
    asked = [record[name] for name in ("attributes", "changed", "letters_exact")]
    return all(float(share) == 1.0 for share in asked if share is not None)


def right(record: dict[str, Any], picture: Image.Image, case: PocketCase) -> bool:
    """Everything that was asked is there, and the picture is near an exact answer: no blend of two."""
    if case.task == "t2i":
        exact_dB = nearest_answer(picture, case.scene)[0]
    else:
        exact_dB = psnr_8bit(*pixels_of([picture, case.target]))
    return asked_for(record) and exact_dB >= CLEAN_DB


def apart(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, in 8-bit levels."""
    a, b = (np.asarray(picture.convert("RGB"), dtype=np.float32) for picture in (one, other))
    return float(np.abs(a - b).mean())


def clearest(
    cases: Sequence[PocketCase], few: Sequence[Image.Image], student: Sequence[Image.Image]
) -> list[list[int]]:
    """By kind, the cases with the clearest failures of the teacher at 4 steps, the clearest first."""
    probe = Probe.load()
    of_few, of_student = probe.examine(few, cases), probe.examine(student, cases)
    found = []
    for kind in KINDS:
        failed = [
            i
            for i, case in enumerate(cases)
            if case.category == kind and not asked_for(of_few[i]) and right(of_student[i], student[i], case)
        ]
        found.append(sorted(failed, key=lambda i: -apart(few[i], student[i]))[:TRIED])
    return found


def shown(cases: Sequence[PocketCase], candidates: Sequence[list[int]], whole: Mapping[int, Image.Image]) -> list[int]:
    """Of each kind the first candidate that the teacher's full sampler draws right; kinds without one are left out."""
    probe = Probe.load()

    def taught(i: int) -> bool:
        return right(probe.examine([whole[i]], [cases[i]])[0], whole[i], cases[i])

    firsts = (next(filter(taught, of_kind), None) for of_kind in candidates)
    return [i for i in firsts if i is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/demo.png"))
    parser.add_argument("--cases", type=int, default=40, help="of each category and kind of edit")
    options = parser.parse_args()
    teacher, own = open_model("pocket"), open_model(options.student)
    encoded = ConditioningCache(teacher.backbone)
    questions = ExamSpec(cases=options.cases, diversity=0, seed=SEED).questions()
    asked = [(case, seed) for case, seed in questions if case.category in KINDS]
    cases, seeds = [case for case, _ in asked], [seed for _, seed in asked]
    plain = system_of(teacher, steps=STEPS, guidance=dict.fromkeys(TASKS, NO_GUIDANCE), encoded=encoded)
    with torch.no_grad():
        few, student = plain.sampler(cases, seeds), system_of(own, encoded=encoded).sampler(cases, seeds)
        candidates = clearest(cases, few, student)
        tried = [i for of_kind in candidates for i in of_kind]
        full = system_of(teacher, guidance=teacher_guidance(), encoded=encoded)
        whole = dict(zip(tried, full.sampler([cases[i] for i in tried], [seeds[i] for i in tried]), strict=True))
        rows = shown(cases, candidates, whole)
    sheet = contact_sheet(
        [
            SheetRow(
                cases[i].prompt,
                [cases[i].references[0] if cases[i].references else None, whole[i], few[i], student[i]],
            )
            for i in rows
        ],
        HEADINGS,
    )
    sheet.save(options.to)
    print(f"{options.to}: {sheet.width} x {sheet.height} px, {len(rows)} of {len(cases)} cases")


if __name__ == "__main__":
    main()
