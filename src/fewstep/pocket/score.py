"""The probe as a judge: its records on the paper's scale, and in the form of every judge's verdicts.

    score = 1 + 4 x share, from 1 (nothing right) to 5 (everything)

Text to image: share = things right / things asked. Every captioned attribute is one thing, and so is the whole word.
Edits: the smallest of the shares that apply. These are the changes made, the rest preserved, and, if the whole picture
may change (repairs, styles), how much of the distance from the source to the one exact answer is closed. The smallest
is taken because an edit that leaves its source unchanged, and one that destroys it, have both failed: both score 1.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from fewstep.pocket.cases import PocketCase
from fewstep.pocket.measure import pixels_of

JUDGE = "probe"
PROTOCOL = "probe-v1"  # raise when the score of a picture could change
LOWEST, HIGHEST = 1.0, 5.0
WHOLE = ("perceptual", "style")  # kinds of edit that change every pixel

_Record = Mapping[str, Any]  # of pocket.probe.probe_record, with case, seed and task


def score_of(share: float) -> float:
    """A share in [0, 1] on the scale of 1 to 5."""
    return LOWEST + (HIGHEST - LOWEST) * share


def score_shares(picture: Image.Image, case: PocketCase, record: _Record) -> dict[str, float]:
    """The shares, each in [0, 1]; the score is made of the smallest."""
    right = {name: bool(value) for name, value in record["right"].items()}
    if case.letters is not None:
        right["letters"] = bool(record["letters_exact"])
    if case.task == "t2i":
        return {"asked": fmean(right.values())}
    sides = {
        "changed": [good for name, good in right.items() if name in case.changed],
        "kept": [good for name, good in right.items() if name not in case.changed],
    }
    found = {side: fmean(goods) for side, goods in sides.items() if goods}
    return found | ({"closed": distance_closed(picture, case)} if case.category in WHOLE else {})


def distance_closed(picture: Image.Image, case: PocketCase) -> float:
    """The closed share of the distance (RMS over pixels) from source to exact answer: 0 for the source itself."""
    return closed_share(*pixels_of([picture, case.references[-1], case.target]))


def closed_share(answer: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """The closed share of the distance from source to target, of pictures (H, W, 3) in 8-bit levels."""
    before, after = (float(np.sqrt(np.mean((x.astype(np.float64) - target) ** 2))) for x in (source, answer))
    return 1.0 if before == 0 else max(0.0, 1.0 - after / before)


def verdict(picture: Image.Image, case: PocketCase, record: _Record, model: str) -> dict[str, Any]:
    """The record as a line of verdicts/probe.jsonl. model: which probe."""
    found = score_shares(picture, case, record)
    shown = (case.prompt, [picture, *case.references])
    return verdict_line(record, shown, JudgeName(JUDGE, PROTOCOL, model), min(found.values()), found)


@dataclass(frozen=True)
class JudgeName:
    """judge: names the file; protocol: how it scores; model: the network that reads."""

    judge: str
    protocol: str
    model: str


def verdict_line(
    record: _Record,
    shown: tuple[str, Sequence[Image.Image]],
    by: JudgeName,
    share: float,
    parts: Mapping[str, float],
) -> dict[str, Any]:
    """A verdict in the form that every judge's have.

    Args:
        shown: the prompt, and the pictures that the verdict depends on.
        share, parts: in [0, 1]; they become scores of 1 to 5.
    """
    return {
        "key": _key(*shown, by),
        **{name: record[name] for name in ("case", "seed", "task", "category")},
        "judge": by.judge,
        "model": by.model,
        "protocol": by.protocol,
        "repeat": 0,
        "status": "ok",
        "score": round(score_of(share), 4),
        "sub_scores": {name: round(score_of(part), 4) for name, part in parts.items()},
        "reasoning": "",
        "failure_modes": [],
    }


def _key(prompt: str, pictures: Sequence[Image.Image], by: JudgeName) -> str:
    """A hash of everything that the verdict depends on."""
    key = hashlib.blake2b(repr((prompt, by.protocol, by.model)).encode(), digest_size=16)
    for picture in pictures:
        key.update(picture.convert("RGB").tobytes())
    return key.hexdigest()
