"""Low-rank updates of lower rank: the nearest there are, in the sum of squares over a module's weights.

B A is never formed: with the QR decompositions B = Qb Rb and A^T = Qa Ra, the singular values of B A are those of the
small square Rb Ra^T, and cutting them off is the truncated SVD (Eckart, Young 1936) of the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.lora.factors import Factors
from fewstep.runtime.errors import AdapterError


@dataclass(frozen=True)
class TruncatedFactors:
    """relative: |left out| / |update|, Frobenius norms over all modules together. worst: that of one module alone."""

    updates: Mapping[str, Factors]
    rank: int
    relative: float
    worst: float
    worst_module: str

    def words(self) -> str:
        return (
            f"{self.rank}: {self.relative:.2%} of the update's length left out, "
            f"{self.worst:.2%} at worst, in {self.worst_module}"
        )


def truncate(updates: Mapping[str, Factors], rank: int) -> TruncatedFactors:
    """Every update of a higher rank cut down to `rank`; the others as they are. Computed in float64.

    Raises:
        AdapterError: a rank below 1, or one that no update is above.
    """
    highest = max(update.rank for update in updates.values())
    if not 1 <= rank < highest:
        raise AdapterError(
            f"rank {rank} shrinks nothing: the update is of rank {highest}; give one from 1 to {highest - 1}"
        )
    found: dict[str, Factors] = {}
    lost: dict[str, tuple[float, float]] = {}  # squares: left out, whole
    for module, update in updates.items():
        found[module], lost[module] = _cut(update, rank)
    shares = {module: (left / whole) ** 0.5 if whole else 0.0 for module, (left, whole) in lost.items()}
    worst = max(shares, key=lambda module: shares[module])
    whole = sum(square for _, square in lost.values())
    left = sum(square for square, _ in lost.values())
    return TruncatedFactors(found, rank, (left / whole) ** 0.5 if whole else 0.0, shares[worst], worst)


def _cut(update: Factors, rank: int) -> tuple[Factors, tuple[float, float]]:
    """The update of at most `rank` singular values, and the squares of those left out and of all. Each side takes the
    root of a singular value, and alpha is their number: a scale of 1."""
    left_QR = torch.linalg.qr(update.b.double())
    right_QR = torch.linalg.qr(update.a.double().T)
    u, s, v = torch.linalg.svd(update.scale * left_QR.R @ right_QR.R.T)
    squares = s.square()
    whole = float(squares.sum())
    if update.rank <= rank:
        return update, (0.0, whole)
    kept = min(rank, len(s))  # a narrow layer has fewer singular values than the factors have rows
    root = s[:kept].sqrt()
    a = (root[:, None] * v[:kept]) @ right_QR.Q.T
    b = left_QR.Q @ (u[:, :kept] * root)
    return Factors(_as(a, update.a), _as(b, update.b), float(kept)), (float(squares[kept:].sum()), whole)


def _as(value: Tensor, like: Tensor) -> Tensor:
    """float32 at least: what was cut down in float64 is not rounded more than it must be."""
    return value.to(like.dtype if like.dtype == torch.float64 else torch.float32)
