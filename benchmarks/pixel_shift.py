"""Do edits move the picture? Median shift between source and result, of the pocket teacher and a pocket student.

python benchmarks/pixel_shift.py STUDENT [--cases 16]
"""

import argparse

import numpy as np

from fewstep.backbones.embedded import POCKET
from fewstep.pocket.cases import edit_case
from fewstep.pocket.shift import shift
from fewstep.run.pocket_exam import teacher_guidance
from fewstep.sample.pictures import (
    Model,
    load_student,
    open_model,
    sample_pictures,
)

KINDS = ("scene", "object", "text", "identity")  # the others may change every pixel


def measured(model: Model, cases: int, steps: int | None) -> list[float]:
    asked = [edit_case(1, i, kind=kind) for kind in KINDS for i in range(cases)]
    backbone = model.backbone
    guidance = model.guidance if model.is_student else teacher_guidance()["edit"]
    grid, _ = model.sampling(steps, guidance)
    conds = [backbone.encode([case.prompt], list(case.references), model.size)[0] for case in asked]
    negatives = None
    if guidance.active:
        negatives = [backbone.encode([guidance.negative], list(c.references), model.size)[0] for c in asked]
    drawn = sample_pictures(backbone, backbone.transformer, conds, range(len(asked)), grid, guidance, negatives)
    pairs = [(c, r) for c, r in zip(asked, drawn, strict=True) if c.region is not None]
    found = [shift(case.references[0], result, case.region) for case, result in pairs if case.region is not None]
    return [one for one in found if one is not None]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("student")
    asked.add_argument("--cases", type=int, default=16, help="of each kind of edit")
    options = asked.parse_args()
    for name, model, steps in (("teacher", open_model(POCKET), 20), ("student", load_student(options.student), None)):
        found = measured(model, options.cases, steps)
        told = f"median {np.median(found):.3f} px, nine of ten below {np.quantile(found, 0.9):.3f}"
        print(f"{name}: {told}, {len(found)} edits")


if __name__ == "__main__":
    main()
