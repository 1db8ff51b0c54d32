"""A judge's verdict on one picture, as every reader of a gallery finds it: GALLERY/verdicts/<judge>.jsonl."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fewstep.runtime import durable
from fewstep.runtime.errors import JudgeError

FOLDER = "verdicts"
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
        JudgeError: a line that is no verdict, or a number where the status allows none.
    """
    files = sorted((gallery / FOLDER).glob("*.jsonl"))
    judged = [path for path in files if not path.name.endswith(".attempts.jsonl")]
    return {path.stem: [verdict_of(r, str(path)) for r in durable.read_jsonl(path)] for path in judged}


def verdict_of(record: Mapping[str, Any], where: str) -> Verdict:
    """The verdict that a record states."""
    known = {key: value for key, value in record.items() if key in KNOWN}
    try:
        if known["status"] not in STATUSES:
            raise ValueError(f"status {known['status']!r:.40}")
        if (known.get("score") is not None) != (known["status"] == "ok"):
            raise ValueError(f"status {known['status']} with score {known.get('score')!r:.40}")
        known["failure_modes"] = tuple(known.get("failure_modes") or ())
        for name in ("sub_scores", "tokens"):
            known[name] = known.get(name) or {}
        return Verdict(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise JudgeError(
            f"{where}: a line is no verdict ({error}); remove the file, the next pass writes it"
        ) from error


def scores_by_picture(verdicts: Sequence[Verdict]) -> dict[tuple[str, int], float]:
    """A judge's score of each case and seed: the mean of its answers that have a score. A case and seed without one is
    absent."""
    found: dict[tuple[str, int], list[float]] = {}
    for verdict in verdicts:
        if verdict.score is not None:
            found.setdefault((verdict.case, verdict.seed), []).append(verdict.score)
    return {key: sum(scores) / len(scores) for key, scores in found.items()}
