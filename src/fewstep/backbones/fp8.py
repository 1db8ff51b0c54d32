"""fp8 numbers: for each row, x is about scale e, with e in e4m3 (4 bits of exponent, 3 of mantissa; arXiv 2209.05433)
and scale = max |x| / 448. So an element is off by at most a sixteenth of itself, whatever lies beside it.

Gradients are in e4m3 too. With a scale for each row its range of 2^17 suffices, and e5m2, made for gradients under one
scale for a whole tensor, has twice the error.
"""

import torch
from torch import Tensor

from fewstep.backbones.rounded_linear import NumberFormat

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0  # of e4m3
LEAST_SCALE = 1e-30  # ours, for a row of zeros


def to_e4m3(x: Tensor) -> tuple[Tensor, Tensor]:
    """e4m3 numbers (M, K), and the scale (M,) in the dtype of x. A row that is not finite has a scale that is not.

    The scale is rounded to its dtype before x is divided by it. So its rounding adds no error. It may leave numbers a
    little above 448, which become 448.
    """
    # scale = max |x| / 448 for each row, e = round(x / scale)
    most = torch.linalg.vector_norm(x, ord=float("inf"), dim=1, dtype=torch.float32)
    scale = (most / LARGEST).clamp_min(LEAST_SCALE).to(x.dtype)
    return (x / scale[:, None]).to(E4M3), scale


def from_e4m3(numbers: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """scale e, (M, K), in `dtype`. e4m3 is exact in bfloat16, so each element is rounded once."""
    return numbers.to(dtype).mul_(scale.to(dtype)[:, None])


def _multiplied(
    x8: Tensor, x_scale: Tensor, w8: Tensor, w_scale: Tensor | None, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """It leaves the kernel in bf16, the dtype that every GPU's kernel for row scales has.

    use_fast_accum: that kernel is fast with it alone (field: torchao's rowwise recipe).
    """
    columns = x_scale.new_ones(w8.shape[1]) if w_scale is None else w_scale
    made = torch._scaled_mm(
        x8,
        w8,
        scale_a=x_scale.float()[:, None],
        scale_b=columns.float()[None],
        bias=None if bias is None else bias.to(torch.bfloat16),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
    return made.to(dtype)


FP8 = NumberFormat(E4M3, torch.uint8, to_e4m3, from_e4m3, _multiplied)
