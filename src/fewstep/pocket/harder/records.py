"""One picture examined: what was asked, and how well it is drawn.

*What was asked* is a share in [0, 1] that the reader gives. Of a prompt it is the share of things right: each attribute
that the prompt names is one thing, and so is a whole word. Of an edit it is the smallest of the shares that apply: the
changes made, the attributes that stayed, and, if the whole picture may change, how much of the distance to the exact
answer is closed (`fewstep/pocket/score.py` says why the smallest). *How well it is drawn* needs the exact answers
(`drawing_quality.py`); a prompt that leaves too much open to list them has no such share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from fewstep.pocket.exam_table import ProbeRecord
from fewstep.pocket.harder.cases import WHOLE, WORD, HarderCase
from fewstep.pocket.harder.drawing_quality import drawing_shares
from fewstep.pocket.harder.exact_answers import RGBArray
from fewstep.pocket.measure import psnr_8bit
from fewstep.pocket.score import closed_share
from fewstep.pocket.shift import shift

Seen = Mapping[str, str]  # what the reader answered to each question


def picture_record(picture: Image.Image, seen: Seen, case: HarderCase, seed: int) -> dict[str, Any]:
    """What the figures are made of. None: does not apply. `_db`: dB; `shift_px`: px that an edit moved the rest."""
    pixels, answers = np.asarray(picture.convert("RGB")), case.answers
    right = {name: read_right(name, seen, case) for name in (*case.asked, *case.kept)}
    sides = asked_shares(pixels, right, case)
    drawn = drawing_shares(pixels, answers) if answers else {}
    return {
        "case": case.id,
        "task": case.task,
        "category": case.category,
        "length": case.length,
        "seed": seed,
        "asked": min(sides.values()),
        "drawn": fmean(drawn.values()) if drawn else None,
        "attributes": mean_or_none([right[name] for name in case.asked if name != WORD]),
        "word": right.get(WORD),
        "letters": len(case.scene.word) or None,
        "read": seen["word"] if WORD in right else None,
        "sides": sides,
        "shares": drawn,
        "right": right,
        "exact_db": max(psnr_8bit(pixels, answer) for answer in answers) if answers else None,
        **left_alone(picture, pixels, case),
    }


def read_right(name: str, seen: Seen, case: HarderCase) -> bool:
    if name == WORD:
        return seen["word"] == case.scene.word
    if case.style is not None:  # nothing else is asked of a styled picture; a portrait's own style is that of its hair
        return seen["style"] == case.style
    return seen[f"{case.scene.category}.{name}"] == case.scene[name]


def asked_shares(pixels: RGBArray, right: Mapping[str, bool], case: HarderCase) -> dict[str, float]:
    """The shares that apply; what was asked is the smallest."""
    if case.task == "t2i":
        return {"named": fmean(right[name] for name in case.asked)}
    found = {
        side: fmean(right[name] for name in names)
        for side, names in (("changed", case.asked), ("kept", case.kept))
        if names
    }
    if case.category in WHOLE:
        source, target = (np.asarray(each.convert("RGB")) for each in (case.references[0], case.target))
        found["closed"] = closed_share(pixels, source, target)
    return found


def left_alone(picture: Image.Image, pixels: RGBArray, case: HarderCase) -> dict[str, float | None]:
    """Of an edit: dB to the exact answer where nothing may change, and the shift of that part against the source."""
    if case.region is None or case.region.all():
        return {"preserved_db": None, "shift_px": None}
    kept = ~case.region
    return {
        "preserved_db": psnr_8bit(pixels[kept], np.asarray(case.target)[kept]),
        "shift_px": shift(case.references[0], picture, case.region),
    }


def nearest_of(picture: Image.Image, answers: tuple[RGBArray, ...]) -> int | None:
    """The number of the exact answer that a picture is nearest to; None where there is no list."""
    pixels = np.asarray(picture.convert("RGB"))
    return int(np.argmax([psnr_8bit(pixels, answer) for answer in answers])) if answers else None


def mean_or_none(values: list[bool]) -> float | None:
    return fmean(values) if values else None


def read_records(folder: Path) -> dict[tuple[str, int], ProbeRecord]:
    """The records of one system, by case and seed."""
    lines = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    return {(line["case"], line["seed"]): line for line in lines}
