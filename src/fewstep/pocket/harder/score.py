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

from fewstep.pocket.harder.cases import WORD, HarderCase
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
    line = verdict_line(record, shown, JudgeName(JUDGE, PROTOCOL, model), fmean(halves.values()), halves)
    return line | {"reasoning": wrong_words(case, record), "failure_modes": failures(case, record)}


def wrong_words(case: HarderCase, record: Mapping[str, Any]) -> str:
    """What the reader read otherwise than it was asked. `style` is a portrait's hair, and of an edit of style the
    style itself."""
    values = dict(case.scene.named) | ({} if case.style is None else {"style": case.style})
    told = [
        f"reads {record['read']!r}, not {case.scene.word!r}" if name == WORD else f"{name} is not {values[name]}"
        for name, good in record["right"].items()
        if not good
    ]
    return "; ".join(told) or "all read as asked"


def failures(case: HarderCase, record: Mapping[str, Any]) -> list[str]:
    sides = record["sides"]
    named = {
        "wrong_letters": record["word"] is False,
        "edit_not_done": sides.get("changed", 1.0) == 0 or sides.get("closed", 1.0) == 0,
        "other_things_changed": case.task == "edit" and sides.get("kept", 1.0) < 1,
        "attributes_wrong": case.task == "t2i" and record["asked"] < 1,
    }
    return [name for name, so in named.items() if so]
