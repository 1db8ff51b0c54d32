"""Stand-in until the metrics branch is merged: the record as the contract has it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fewstep import durable


@dataclass(frozen=True)
class Measured:
    case: str
    seed: int
    task: str
    category: str
    metric: str
    version: str
    values: Mapping[str, float]
    skipped: str | None = None


def read_metrics(gallery: Path) -> dict[str, list[Measured]]:
    return {p.stem: [Measured(**r) for r in durable.lines(p)] for p in sorted((gallery / "metrics").glob("*.jsonl"))}
