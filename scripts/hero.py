"""The picture on the first page: cases in which the teacher fails at 4 steps, and the student does not.

`python scripts/hero.py runs/comparison` reads what `fewstep pocket compare STUDENT --out runs/comparison` left of a
student of the harder world; nothing is drawn. It keeps the cases where the reader finds the teacher at 4 steps wrong,
and the teacher at 40 and the student right in everything that was asked and well drawn. Signs with small letters are
left out. Of each kind it takes the one whose pictures at 4 steps differ most. So the rows are chosen: docs/results.md
says how often each system is right over all cases.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewstep.bench.gallery import Gallery
from fewstep.pocket.harder.exam import HarderExamSpec
from fewstep.pocket.harder.records import read_records
from fewstep.pocket.harder.systems import SHOWN, STUDENT, TEACHER, TEACHER_FEW
from fewstep.sample.sheet import SheetRow, contact_sheet

KINDS = ("landscape", "portrait", "text", "scene", "two-pictures")  # five rows, which fit a screen
CLEAN_DB = 24.0  # ours: a picture that is further from every exact answer may be a blend of two
CLEAN_LETTERS_DB = 29.0  # ours: where a sign is further, the reader may read what a person would not
SMALL = "small"  # letters of 8 px: the reader reads them, and no person could tell
CELL = 200
Records = Mapping[tuple[str, int], Mapping[str, Any]]


def right(record: Mapping[str, Any]) -> bool:
    """Everything that was asked is there, and the picture is near an exact answer."""
    least = CLEAN_LETTERS_DB if record["letters"] else CLEAN_DB
    return bool(record["asked"] == 1 and (record["exact_db"] or 0) >= least)


def apart(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, in 8-bit levels."""
    a, b = (np.asarray(picture.convert("RGB"), dtype=np.float32) for picture in (one, other))
    return float(np.abs(a - b).mean())


def clearest(
    keys: list[tuple[str, int]], records: Mapping[str, Records], galleries: Mapping[str, Gallery]
) -> tuple[str, int] | None:
    """Of these cases, the one whose two pictures at 4 steps differ most; None if all fail, or none does."""
    failed = [
        key
        for key in keys
        if records[TEACHER_FEW][key]["asked"] < 1 and all(right(records[name][key]) for name in (TEACHER, STUDENT))
    ]
    return max(
        failed,
        key=lambda key: apart(galleries[TEACHER_FEW].picture(*key), galleries[STUDENT].picture(*key)),
        default=None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examination", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/demo.png"))
    options = parser.parse_args()
    spec = HarderExamSpec(**json.loads((options.examination / "figures.json").read_text())["paper"])
    galleries = {name: Gallery(options.examination / name) for name in SHOWN}
    records = {name: read_records(options.examination / name) for name in SHOWN}
    asked = {(case.id, seed): case for case, seed in spec.questions()[: spec.scored_count]}
    rows = []
    for kind in KINDS:
        shown = [key for key, case in asked.items() if case.category == kind and SMALL not in case.prompt]
        key = clearest(shown, records, galleries)
        if key is not None:
            case = asked[key]
            given = [*case.references, None, None][:2]
            rows.append(SheetRow(case.prompt, [*given, *(galleries[name].picture(*key) for name in SHOWN)], case.id))
    sheet = contact_sheet(rows, ("source", "image 2", *SHOWN.values()), CELL)
    sheet.save(options.to)
    print(f"{options.to}: {sheet.width} x {sheet.height} px, {len(rows)} of {len(asked)} cases")


if __name__ == "__main__":
    main()
