"""What is found of one picture of an examination."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ExamRecord:
    """One picture. values: figures by their short names, such as psnr. missing: why others are not there."""

    case: str
    task: str
    category: str
    seed: int
    values: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
