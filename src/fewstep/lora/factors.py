"""The low-rank update of one module: W' = W + (alpha / rank) B A with A (rank, in) and B (out, rank).

Source: LoRA (arXiv 2106.09685), eq. 3 and sec. 4.1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.runtime.errors import AdapterError


@dataclass(frozen=True)
class Factors:
    """a (rank, in), b (out, rank), and alpha, which scales their product by alpha / rank."""

    a: Tensor
    b: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the module that it changes."""
        return self.b.shape[0], self.a.shape[1]

    def delta(self) -> Tensor:
        """The update of W, (out, in), float32."""
        # W' - W = (alpha / rank) B A    [LoRA, arXiv 2106.09685, sec. 4.1]
        return self.scale * (self.b.float() @ self.a.float())

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def at_scale_one(self) -> "Factors":
        """The same update with alpha = rank, so that a program which reads no alpha applies it as strongly.

        The scale is multiplied into B, in float32 or better. That is exact where it is a power of two.
        """
        if self.scale == 1.0:
            return self
        b = self.b if self.b.dtype == torch.float64 else self.b.float()
        return Factors(self.a, b * self.scale, float(self.rank))

    def rows(self, first: int, last: int) -> "Factors":
        """The update of rows `first` to `last` of W alone, with the same scale.

        Ranks that change none of these rows are dropped. So a part of a block-diagonal update (`stacked`) loses the
        ranks of the other parts.
        """
        b = self.b[first:last]
        used = b.any(0)
        if used.all():
            return Factors(self.a, b, self.alpha)
        used[0] |= not used.any()  # a LoRA has at least rank 1
        return Factors(self.a[used], b[:, used], self.scale * int(used.sum()))


def stacked(parts: Sequence[Factors]) -> Factors:
    """The update of a layer that holds the rows of several layers, in the order of `parts`.

    Ranks add up, and alpha is chosen so that alpha / rank is that of the first part. A part with another scale has the
    ratio of the two scales multiplied into its B.
    """
    # [W1; W2] + s blockdiag(B1, B2) [A1; A2]
    scale = parts[0].scale
    b = torch.block_diag(*(part.b if part.scale == scale else part.b * (part.scale / scale) for part in parts))
    return Factors(torch.cat([part.a for part in parts]), b, scale * sum(part.rank for part in parts))


def swap_halves(factors: Factors) -> Factors:
    """The update of a layer that holds the same rows, with their two halves exchanged."""
    return Factors(factors.a, torch.cat(factors.b.chunk(2)[::-1]), factors.alpha)


def factors_of(module: str, sides: Mapping[str, Tensor], alpha: float, where: str = "") -> Factors:
    """The update from its two sides, "A" and "B". `where` is put in front of error messages.

    Raises:
        AdapterError: one side is missing, the sides have different ranks or rank 0, or values are not finite.
    """
    if set(sides) != {"A", "B"}:
        raise AdapterError(f"{where}{module} has lora_{next(iter(sides))} but not its partner; the file is incomplete")
    a, b = sides["A"], sides["B"]
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise AdapterError(
            f"{where}{module}: lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)} do not multiply; they are of two "
            "adapters of different ranks, or no linear layer's"
        )
    if a.shape[0] == 0:
        raise AdapterError(f"{where}{module} is of rank 0: it changes nothing, and has no scale. Leave it out")
    if not (a.isfinite().all() and b.isfinite().all() and math.isfinite(alpha)):
        raise AdapterError(f"{where}{module} holds values that are not finite; take an earlier checkpoint")
    return Factors(a, b, alpha)


def merged(weight: Tensor, factors: Factors, module: str) -> Tensor:
    """W + (alpha / rank) B A in float32, whatever the dtype of W. In bfloat16 the sum would lose most of the update.

    Raises:
        AdapterError: the update has another shape than the weight.
    """
    if factors.shape != tuple(weight.shape):
        raise AdapterError(f"{module}: the update {factors.shape} does not fit the base {tuple(weight.shape)}")
    return weight.float() + factors.delta().to(weight.device)
