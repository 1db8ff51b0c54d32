"""The probe as a judge: its records on the paper's scale, and in the form that all judges' verdicts have.

    score = 1 + 4 x share, from 1 (nothing right) to 5 (everything)

Text to image: share = things right / things asked. Every captioned attribute is one thing, the whole word another.
Edits: share = (changes made / changes asked) x (rest right / rest), each where it applies. The product, because an edit
that leaves its source as it was, or one that destroys it, has not been made: both score 1.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

JUDGE = "probe"
PROTOCOL = "pocket-probe-1"  # raise when the score of a picture could change
LOWEST, HIGHEST = 1.0, 5.0


def score_of(share: float) -> float:
    """A share in [0, 1] on the scale of 1 to 5."""
    return LOWEST + (HIGHEST - LOWEST) * share


def shares(record: Mapping[str, Any], changed: tuple[str, ...]) -> dict[str, float]:
    """What a record's score is made of: attributes and letters of T2I, changed and kept of an edit.

    Args:
        record: the probe's (`pocket.probe.judged`), with its task.
        changed: the attributes (or "letters") that the edit asks to change.
    """
    right = {name: bool(value) for name, value in record["right"].items()}
    if record["letters_exact"] is not None:
        right["letters"] = bool(record["letters_exact"])
    if record["task"] == "t2i":
        names = {"attributes": [n for n in right if n != "letters"], "letters": [n for n in right if n == "letters"]}
    else:
        names = {"changed": [n for n in right if n in changed], "kept": [n for n in right if n not in changed]}
    return {part: float(np.mean([right[n] for n in members])) for part, members in names.items() if members}


def share_right(record: Mapping[str, Any], changed: tuple[str, ...]) -> float:
    """The share that the score is made of."""
    parts = shares(record, changed)
    if record["task"] != "t2i":
        return float(np.prod(list(parts.values())))
    right = [*record["right"].values(), *([record["letters_exact"]] if "letters" in parts else [])]
    return float(np.mean([bool(value) for value in right]))


def verdict(
    record: Mapping[str, Any], changed: tuple[str, ...], picture: Image.Image, prompt: str, model: str
) -> dict[str, Any]:
    """The record as a line of verdicts/probe.jsonl. model: which probe."""
    key = hashlib.blake2b(picture.convert("RGB").tobytes(), digest_size=16)
    key.update(repr((prompt, PROTOCOL, model)).encode())
    return {
        "key": key.hexdigest(),
        **{name: record[name] for name in ("case", "seed", "task", "category")},
        "judge": JUDGE,
        "model": model,
        "protocol": PROTOCOL,
        "repeat": 0,
        "status": "ok",
        "score": round(score_of(share_right(record, changed)), 6),
        "sub_scores": {part: round(score_of(share), 6) for part, share in shares(record, changed).items()},
        "reasoning": None,
        "failure_modes": [],
        "rung": None,
    }
