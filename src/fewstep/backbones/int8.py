"""int8 numbers: for each row, x is about scale n, with n an integer in -127 .. 127 and scale = max |x| / 127. So an
element is off by at most scale / 2.

torch's own product of int8 is wrong on x86 CPUs without VNNI instructions: pairs of products are added in 16 bits and
stop at 32,767, without a word (torch 2.13.0, findings/torch-int8-sums-saturate.sh). There the same integers are
multiplied in float64: it holds every sum exactly, and autocast, which would round float32 sums to bfloat16, leaves it.
"""

from functools import cache

import torch
from torch import Tensor

from fewstep.backbones.rounded_linear import NumberFormat

LEVELS = 127


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """int8 numbers (M, K), and the scale (M,) in the dtype of x. A row that is not finite has a scale that is not.

    The scale is rounded to its dtype before x is divided by it. So its rounding adds no error.
    """
    # scale = max |x| / 127 for each row, n = round(x / scale)
    least = torch.finfo(x.dtype).tiny  # a row of zeros
    most = torch.linalg.vector_norm(x, ord=float("inf"), dim=1, dtype=torch.float32)
    scale = (most / LEVELS).to(x.dtype).clamp_min(least)
    return torch.div(x, scale.float()[:, None]).round_().to(torch.int8), scale


def dequantize(numbers: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """scale n, (M, K), in `dtype`. Integers up to 127 are exact in bfloat16, so each element is rounded once."""
    return numbers.to(dtype).mul_(scale.to(dtype)[:, None])


_saturates = False  # a global: compiled code reads it, and could not call a cached function


@cache
def sums_saturate_on_cpu() -> bool:
    """Whether torch's product of int8 is wrong on this CPU."""
    global _saturates
    most = torch.full((16, 16), LEVELS, dtype=torch.int8, device="cpu")  # whatever the default device is
    _saturates = bool(torch._int_mm(most, most).ne(16 * LEVELS**2).any())
    return _saturates


def _sums(x8: Tensor, w8: Tensor) -> Tensor:
    if _saturates and x8.device.type == "cpu":
        return (x8.double() @ w8.double()).float()
    return torch._int_mm(x8, w8)


def _multiplied(
    x8: Tensor, x_scale: Tensor, w8: Tensor, w_scale: Tensor | None, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Sums are exact; scales and bias follow in float32. torch's compiler makes one pass of them."""
    made = _sums(x8, w8) * x_scale.float()[:, None]
    if w_scale is not None:
        made = made.mul_(w_scale.float())
    if bias is not None:
        made = made.add_(bias)
    return made.to(dtype)


INT8 = NumberFormat(torch.int8, torch.int8, quantize, dequantize, _multiplied, sums_saturate_on_cpu)
