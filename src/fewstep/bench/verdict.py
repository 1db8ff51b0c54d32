"""A judge's verdict on one picture, as every reader of a gallery finds it: GALLERY/verdicts/<judge>.jsonl."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fewstep.bench.lines import LineFields, mistyped, whole_lines
from fewstep.runtime import durable
from fewstep.runtime.errors import JudgeError

FOLDER = "verdicts"
LOWEST, HIGHEST = 1.0, 5.0  # of every score, whatever the protocol
REMEDY = "remove the file, and `fewstep judge run` writes it again from the attempts"
VerdictStatus = Literal["ok", "refused", "invalid", "out_of_range", "truncated", "failed"]
STATUSES: tuple[VerdictStatus, ...] = ("ok", "refused", "invalid", "out_of_range", "truncated", "failed")


@dataclass(frozen=True)
class Verdict:
    """One picture's verdict by one judge. score (1..5) and sub_scores exist exactly if status is "ok": no failure is
    ever a number. model: as the server names itself. why: the reason for another status, or for a score above the cap
    of a failure that the judge names. rubric: if the protocol has several. asked: a hash of model and parameters.
    words: a hash of the wording of the question."""

    key: str
    case: str
    seed: int
    task: str
    category: str
    judge: str
    model: str | None
    protocol: str
    status: VerdictStatus
    repeat: int = 0
    score: float | None = None
    sub_scores: Mapping[str, float] = field(default_factory=dict)
    reasoning: str = ""
    failure_modes: tuple[str, ...] = ()
    rung: str | None = None
    seconds: float | None = None
    tokens: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None
    why: str | None = None
    rubric: str | None = None
    asked: str | None = None
    words: str | None = None

    def __post_init__(self) -> None:
        assert (self.score is not None) == (self.status == "ok"), self

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "failure_modes": list(self.failure_modes)}


KNOWN = {f.name for f in fields(Verdict)}
FIELDS: LineFields = {
    "key": "text",
    "case": "text",
    "seed": "whole",
    "task": "text",
    "category": "text",
    "judge": "text",
    "model": "text?",
    "protocol": "text",
    "status": "text",
    "repeat": "whole?",
    "score": "number?",
    "sub_scores": "numbers?",
    "reasoning": "text?",
    "failure_modes": "texts?",
    "rung": "text?",
    "seconds": "number?",
    "tokens": "object?",
    "cost": "number?",
    "why": "text?",
    "rubric": "text?",
    "asked": "text?",
    "words": "text?",
}


def verdicts_path(gallery: Path, judge: str) -> Path:
    return gallery / FOLDER / f"{judge}.jsonl"


def write_verdicts(gallery: Path, judge: str, verdicts: Sequence[Verdict]) -> Path:
    """Writes the judge's file, whole."""
    durable.make_folder(gallery / FOLDER)
    path = verdicts_path(gallery, judge)
    durable.write_atomically(
        path, "".join(json.dumps(v.record(), ensure_ascii=False, allow_nan=False) + "\n" for v in verdicts)
    )
    return path


def read_verdicts(gallery: Path) -> dict[str, list[Verdict]]:
    """Every judge's verdicts on a gallery, by the judge's name. Keys that this version does not know are ignored.

    Raises:
        JudgeError: a line that is cut off or no verdict, a score beyond the scale, a number where the status allows
            none, or two verdicts on one question. Names the file and the line.
    """
    files = sorted((gallery / FOLDER).glob("*.jsonl"))
    return {path.stem: _of_file(path) for path in files if not path.name.endswith(".attempts.jsonl")}


def _of_file(path: Path) -> list[Verdict]:
    found: dict[tuple[str, int, int], tuple[str, Verdict]] = {}
    for where, record in whole_lines(path, JudgeError, REMEDY):
        verdict = verdict_of(record, where)
        first, _ = found.setdefault((verdict.case, verdict.seed, verdict.repeat), (where, verdict))
        if first != where:
            raise JudgeError(
                f"{where}: a second verdict on case {verdict.case!r:.60}, seed {verdict.seed}, after {first}; {REMEDY}"
            )
    return [verdict for _, verdict in found.values()]


def verdict_of(record: Mapping[str, Any], where: str, remedy: str = REMEDY) -> Verdict:
    """The verdict that a record states.

    Raises:
        JudgeError: it states none, or a score beyond the scale.
    """
    if wrong := mistyped(record, FIELDS) or contradiction(record):
        raise JudgeError(f"{where}: the line is no verdict ({wrong}); {remedy}")
    known = {key: value for key, value in record.items() if key in KNOWN and value is not None}
    return Verdict(**{"model": None, **known, "failure_modes": tuple(known.get("failure_modes", ()))})


def contradiction(record: Mapping[str, Any]) -> str | None:
    """What cannot be of a verdict's status and scores, in words; None if all is well."""
    status, score = record["status"], record.get("score")
    if status not in STATUSES:
        return f"status {status!r:.40}"
    if (score is not None) != (status == "ok"):
        return f"status {status} with score {score!r:.40}"
    numbers = {"score": score, **(record.get("sub_scores") or {})}
    beyond = [f"{name} is {x:g}" for name, x in numbers.items() if x is not None and not LOWEST <= x <= HIGHEST]
    return f"{beyond[0]}, beyond {LOWEST:g} to {HIGHEST:g}" if beyond else None


def scores_by_picture(verdicts: Sequence[Verdict]) -> dict[tuple[str, int], float]:
    """A judge's score of each case and seed: the mean of its answers that have a score. A case and seed without one is
    absent."""
    found: dict[tuple[str, int], list[float]] = {}
    for verdict in verdicts:
        if verdict.score is not None:
            found.setdefault((verdict.case, verdict.seed), []).append(verdict.score)
    return {key: sum(scores) / len(scores) for key, scores in found.items()}
