"""Linear layers of a frozen transformer with one byte a weight: what int8 and fp8 have in common.

Only the blocks are rounded. Embeddings, norms and layers outside the blocks stay as they are: they take little memory,
and all blocks depend on them. The weights do not learn; the gradient flows through to the input.

A product is made in one of two ways. For x (M, in), W = s_W W8 (out, in) with a scale for each output, and dy (M, out):

    converted   y = x W^T, dx = dy W, with W converted back to the dtype of x: it saves memory alone (W8A16)
    8 bits      y = s_x (x8 W8^T) s_W, with x = s_x x8 rounded row by row, a token each (W8A8)
                dx = s_g (g8 W8), with dy s_W = s_g g8 rounded row by row

The second sum of the second way runs over W's outputs, so s_W cannot stay outside of it: it is multiplied into dy
before dy is rounded. W8 is that of the forward, so the gradient is that of the rounded weight. Rows are rounded apart:
a token's answer does not depend on those beside it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.backbones.blocks import blocks

MULTIPLE = 16  # of both sides of W, for products in 8 bits: what the GPU's kernels take
NEVER = float("inf")

# Ours, reckoned and not measured: it waits for a GPU (`benchmarks/w8a8_base.py`). At 400 TFLOP/s in bf16 and twice that
# in fp8, a row of a layer of 4,096 x 4,096 takes 0.042 us less, of which rounding the row takes 0.008 us. Launching six
# more kernels takes about 15 us, and turning W8 round in a backward pass about 15 us more. So a forward breaks even at
# some 450 rows, and a backward pass at 900.
LEAST_ROWS = 1024


class NumberFormat(NamedTuple):
    """Numbers of one byte with a scale for each row.

    Args:
        dtype: of the numbers.
        kept: of the weights that hold their bits. It is no float: diffusers and peft take the dtype of a model's floats
            for the one that it computes in, and cast floats.
        rounded: (M, K) -> the numbers (M, K), and the scale of each row (M,) in the dtype of what was given.
        converted: numbers (M, K), scale (M,), dtype -> what they stand for, (M, K), in that dtype.
        multiplied: x8 (M, K), s_x (M,), w8 (K, N) column by column, s_w (N,) or None for ones, bias (N,) or None, dtype
            -> s_x (x8 w8) s_w + bias, (M, N), in that dtype.
        prepare: is called before the first layer is rounded. It must not be called while fake tensors are made.
    """

    dtype: torch.dtype
    kept: torch.dtype
    rounded: Callable[[Tensor], tuple[Tensor, Tensor]]
    converted: Callable[[Tensor, Tensor, torch.dtype], Tensor]
    multiplied: Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, torch.dtype], Tensor]
    prepare: Callable[[], object] = lambda: None


class RoundedLinear(nn.Linear):
    """A frozen linear layer with rounded weights. It is still an nn.Linear, so that adapters find and wrap it.

    weight holds the bits of the numbers, (out, in); scale is (out,), in the dtype that the weight had.
    """

    scale: Tensor

    def __init__(self, linear: nn.Linear, numbers: NumberFormat, least_rows: float = NEVER):
        """least_rows: from so many rows at once, products are made in 8 bits."""
        nn.Module.__init__(self)  # nn.Linear's __init__ would allocate the weights again
        if type(linear.weight.detach()) is Tensor:  # else weights are fake
            numbers.prepare()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scale = numbers.rounded(linear.weight.detach())
        self.weight = nn.Parameter(weight.view(numbers.kept), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias
        fits = self.in_features % MULTIPLE == 0 == self.out_features % MULTIPLE
        self.numbers, self.least_rows = numbers, least_rows if fits else NEVER

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        many = input.numel() // self.in_features >= self.least_rows
        product: Any = (_EightBitProduct if many else _ConvertedProduct).apply
        return product(input, self.weight, self.scale, self.bias, self.numbers)  # type: ignore[no-any-return]


class _ConvertedProduct(torch.autograd.Function):
    """x W^T + bias, with a backward pass that keeps rounded weights.

    The gradient in x is g W, so the backward pass needs W again. If autograd recorded the product of converted weights,
    it would keep W in bf16 for every layer until then, and nothing would be saved. So only rounded weights and scale
    are kept, and W is converted a second time. There is no gradient in W, scale and bias, because they are frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, numbers: NumberFormat
    ) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.numbers = numbers
        whole = numbers.converted(weight.view(numbers.dtype), scale, x.dtype)
        return functional.linear(x, whole, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight, scale), numbers, g = ctx.saved_tensors, ctx.numbers, grads[0]
        # dL/dx = dL/dy W
        return g @ numbers.converted(weight.view(numbers.dtype), scale, g.dtype), None, None, None, None


class _EightBitProduct(torch.autograd.Function):
    """x W^T + bias, and its gradient in x, in 8 bits. As above, only rounded weights and scale are kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, numbers: NumberFormat
    ) -> Tensor:
        ctx.save_for_backward(weight, scale)
        ctx.numbers = numbers
        # y = s_x (x8 W8^T) s_W + bias
        return _eight_bit(numbers, x, weight.view(numbers.dtype).t(), scale, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight, scale), numbers, g = ctx.saved_tensors, ctx.numbers, grads[0]
        # The kernels read their second factor column by column. W8^T lies so already; W8 is turned round here, a byte
        # for each weight of one layer, because a second copy would stay for every layer.
        turned = weight.t().contiguous().view(numbers.dtype).t()
        # dL/dx = s_g (g8 W8), with s_g g8 = dL/dy s_W
        return _eight_bit(numbers, g * scale.to(g.dtype), turned, None, None), None, None, None, None


def _eight_bit(numbers: NumberFormat, x: Tensor, turned: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """(..., K) times (K, N), in the dtype of the first."""
    rows, row_scale = numbers.rounded(x.reshape(-1, x.shape[-1]))
    made = numbers.multiplied(rows.contiguous(), row_scale, turned, scale, bias, x.dtype)
    return made.view(*x.shape[:-1], turned.shape[1])


def round_blocks(transformer: nn.Module, numbers: NumberFormat, least_rows: float = NEVER) -> None:
    """Replaces every linear layer of the blocks by its rounded form, in place. This is done one layer after another, so
    that only one exists twice at a time.

    least_rows: from so many rows at once, products are made in 8 bits.
    """
    for block in blocks(transformer):
        for path, layer in list(block.named_modules()):
            if type(layer) is nn.Linear:
                parent, _, leaf = path.rpartition(".")
                setattr(block.get_submodule(parent), leaf, RoundedLinear(layer, numbers, least_rows))
