"""A judge's answers about two systems' pictures side by side, and the figures computed from them.

A judge that prefers what it sees first is exposed by asking in both orders: the same pair then gets the other answer.
Files: GALLERY_A/pairs/<system B>/<judge>.jsonl, a line for each order of each pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fewstep.bench import statistics
from fewstep.bench.lines import LineFields, mistyped, whole_lines
from fewstep.bench.statistics import SHARE, Estimate
from fewstep.bench.verdict import STATUSES
from fewstep.runtime.errors import JudgeError

FOLDER = "pairs"
REMEDY = "remove the file, and `fewstep judge pair` writes it again from the attempts"
WON = {"A": "first", "B": "second", "tie": "tie"}


@dataclass(frozen=True)
class PairVerdict:
    """One answer about one pair in one order. first, second: the systems in the order in which they were shown. won:
    "first", "second" or "tie" exactly if status is "ok"; a pair without an answer is no tie."""

    key: str
    case: str
    seed: int
    task: str
    category: str
    judge: str
    model: str | None
    protocol: str
    first: str
    second: str
    status: str
    repeat: int = 0
    won: str | None = None
    reasoning: str = ""
    why: str | None = None
    rung: str | None = None
    seconds: float | None = None
    tokens: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None


def read_pairs(path: Path, remedy: str = REMEDY) -> list[PairVerdict]:
    """The lines of a pairs file.

    Raises:
        JudgeError: a line that is cut off or no verdict, or two on one question. Names the file and the line.
    """
    found: dict[tuple[str, int, int, str], tuple[str, PairVerdict]] = {}
    for where, record in whole_lines(path, JudgeError, remedy):
        if wrong := mistyped(record, FIELDS) or _contradiction(record):
            raise JudgeError(f"{where}: the line is no verdict on a pair ({wrong}); {remedy}")
        told = pair_verdict_of(record)
        first, _ = found.setdefault((told.case, told.seed, told.repeat, told.first), (where, told))
        if first != where:
            raise JudgeError(f"{where}: a second verdict on the pair of {first}; {remedy}")
    return [verdict for _, verdict in found.values()]


def _contradiction(record: Mapping[str, Any]) -> str | None:
    """What cannot be, in words."""
    if record["status"] not in STATUSES:
        return f"status {record['status']!r:.40}"
    won = record.get("won")
    if (won in WON.values()) != (record["status"] == "ok") or (won is not None and won not in WON.values()):
        return f"status {record['status']} with won {won!r:.40}"
    return None


FIELDS: LineFields = {
    "key": "text",
    "case": "text",
    "seed": "whole",
    "task": "text",
    "category": "text",
    "judge": "text",
    "model": "text?",
    "protocol": "text",
    "first": "text",
    "second": "text",
    "status": "text",
    "repeat": "whole?",
    "won": "text?",
    "reasoning": "text?",
    "why": "text?",
    "rung": "text?",
    "seconds": "number?",
    "tokens": "object?",
    "cost": "number?",
}


@dataclass(frozen=True)
class PairFigures:
    """wins: of the first gallery's system, ties count half, over pairs that have both orders. order_effect: the share
    of wins of the first picture minus that of the second, over all answers; 0 for a judge without this bias. agreement:
    share of pairs whose two orders give the same answer. half: pairs with one order only, not counted in wins."""

    wins: Estimate
    ties: Estimate
    order_effect: Estimate
    agreement: Estimate
    pairs: int
    half: int


def pair_figures(verdicts: Sequence[PairVerdict], system: str) -> PairFigures:
    """The figures for `system`. Intervals resample whole cases."""
    answered = [verdict for verdict in verdicts if verdict.status == "ok"]
    orders: dict[tuple[str, int, int], dict[str, float]] = {}
    for verdict in answered:
        mine = orders.setdefault((verdict.case, verdict.seed, verdict.repeat), {})
        mine[verdict.first] = _points(verdict, system)
    whole = {key: tuple(points.values()) for key, points in orders.items() if len(points) == 2}
    cases = [case for case, _, _ in whole]
    asked = [verdict.case for verdict in answered]
    return PairFigures(
        wins=statistics.mean([sum(points) / 2 for points in whole.values()], cases, bounds=SHARE),
        ties=statistics.mean([float(verdict.won == "tie") for verdict in answered], asked, bounds=SHARE),
        order_effect=statistics.mean([_first_minus_second(v) for v in answered], asked, bounds=(-1.0, 1.0)),
        agreement=statistics.mean([float(points[0] == points[1]) for points in whole.values()], cases, bounds=SHARE),
        pairs=len(whole),
        half=len(orders) - len(whole),
    )


def _points(verdict: PairVerdict, system: str) -> float:
    if verdict.won == "tie":
        return 0.5
    return float((verdict.first if verdict.won == "first" else verdict.second) == system)


def _first_minus_second(verdict: PairVerdict) -> float:
    return {"first": 1.0, "tie": 0.0, "second": -1.0}[str(verdict.won)]


def pair_verdict_of(record: Mapping[str, Any]) -> PairVerdict:
    """The verdict that a record, or an attempt's result, states."""
    known = {f.name for f in fields(PairVerdict)}
    told = {key: value for key, value in record.items() if key in known}
    if record.get("winner") is not None:
        told["won"] = WON[str(record["winner"])]
    return PairVerdict(**{**told, "tokens": told.get("tokens") or {}})


def folder_name(name: str) -> str:
    """A system's name as the name of a folder."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
