"""Stand-in until the judges' branch is merged: the record as the contract has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fewstep import durable


@dataclass(frozen=True)
class Verdict:
    key: str
    case: str
    seed: int
    task: str
    category: str
    judge: str
    model: str
    protocol: str
    status: str
    repeat: int = 0
    score: float | None = None
    sub_scores: Mapping[str, float] = field(default_factory=dict)
    reasoning: str = ""
    failure_modes: tuple[str, ...] = ()
    rung: str | None = None
    seconds: float | None = None
    tokens: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None


def read_verdicts(gallery: Path) -> dict[str, list[Verdict]]:
    known = {f.name for f in fields(Verdict)}
    files = sorted(p for p in (gallery / "verdicts").glob("*.jsonl") if not p.stem.endswith(".attempts"))
    return {p.stem: [Verdict(**{k: v for k, v in r.items() if k in known}) for r in durable.lines(p)] for p in files}
