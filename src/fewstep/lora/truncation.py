"""Cuts a low-rank update down to a lower rank. The result is the nearest one in the Frobenius norm.

The product B A is never formed. With the QR decompositions B = Qb Rb and A^T = Qa Ra, the singular values of B A are
those of the small matrix Rb Ra^T. Dropping the smallest of them gives the truncated SVD of B A, which is the nearest
matrix of that rank (Eckart and Young, 1936).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.lora.factors import Factors
from fewstep.runtime.errors import AdapterError


@dataclass(frozen=True)
class TruncatedFactors:
    """Updates after the cut, and what was lost.

    Args:
        relative: |left out| / |update|, Frobenius norms over all modules together.
        worst: the largest such ratio of a single module, `worst_module`.
    """

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
    """Cuts every update of a higher rank down to `rank`, in float64. The others stay as they are.

    Raises:
        AdapterError: a rank below 1, or not below the highest rank of the updates.
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
    """The update with at most `rank` singular values; and the sums of squares of those left out, and of all.

    Each side is multiplied by the square root of the singular values. alpha is their number, so the scale is 1.
    """
    # (alpha / r) B A = Qb (U S V^T) Qa^T, with U S V^T the SVD of (alpha / r) Rb Ra^T    [Eckart and Young, 1936]
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
    """In float32, or float64 if `like` is: what was computed in float64 is not rounded to bf16."""
    return value.to(like.dtype if like.dtype == torch.float64 else torch.float32)
