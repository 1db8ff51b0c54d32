"""The reader as a judge: its records on the paper's scale, and in the form of every judge's verdicts.

    score = 1 + 4 x (what was asked + how well it is drawn) / 2, from 1 to 5

The paper's judges score what was asked and quality alike. Where a picture has no listed exact answer, as of a short
prompt, how well it is drawn is not known, and what was asked decides alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from PIL import Image

from fewstep.pocket.harder.cases import HarderCase
from fewstep.pocket.score import JudgeName, verdict_line

JUDGE = "reader"
PROTOCOL = "reader-v1"  # raise when the score of a picture could change
HALVES = ("asked", "drawn")


def halves_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The halves that a record has, each in [0, 1]."""
    return {name: float(record[name]) for name in HALVES if record[name] is not None}


def harder_verdict(picture: Image.Image, case: HarderCase, record: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The record as a line of verdicts/reader.jsonl. model: which reader."""
    halves = halves_of(record)
    shown = (case.prompt, [picture, *case.references])
    return verdict_line(record, shown, JudgeName(JUDGE, PROTOCOL, model), fmean(halves.values()), halves)
