"""int8 weights for a frozen transformer: one byte for each weight in the linear layers of its blocks.

For each output row, W is about scale w, with w an integer in -127 .. 127 and scale = max |W| / 127. So an element is
off by at most scale / 2. A product converts W back to the dtype of its input. The weights do not learn; the gradient
flows through to the input. Embeddings, norms and layers outside the blocks stay as they are: they take little memory,
and all blocks depend on them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.backbones.blocks import blocks

LEVELS = 127


class Int8Linear(nn.Linear):
    """A frozen linear layer with int8 weights. It is still an nn.Linear, so that adapters find and wrap it.

    weight is int8, (out, in). scale is (out,), in the dtype that the weight had.
    """

    scale: Tensor

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)  # nn.Linear's __init__ would allocate the weights again
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scale = quantize(linear.weight.detach())
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        product: Any = _Product.apply
        return product(input, self.weight, self.scale, self.bias)


class _Product(torch.autograd.Function):
    """x W^T + bias, with a backward pass that keeps int8 weights.

    The gradient in x is g W, so the backward pass needs W again. If autograd recorded the product of converted weights,
    it would keep W in bf16 for every layer until then, and nothing would be saved. So only int8 weights and scale are
    kept, and W is converted a second time. There is no gradient in W, scale and bias, because they are frozen.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return functional.linear(x, dequantize(weight, scale, x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        weight, scale = ctx.saved_tensors
        # dL/dx = dL/dy W
        return grads[0] @ dequantize(weight, scale, grads[0].dtype), None, None, None


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 weights (out, in), and the scale (out,) in the weight's dtype.

    The scale is rounded to its dtype before weights are divided by it. So its rounding adds no error.
    """
    # scale = max |W| / 127 for each row, w = round(W / scale)
    least = torch.finfo(weight.dtype).tiny  # a row of zeros
    scale = (weight.abs().amax(dim=1).float() / LEVELS).to(weight.dtype).clamp_min(least)
    return (weight.float() / scale.float()[:, None]).round().to(torch.int8), scale


def dequantize(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """scale w, (out, in), in `dtype`. Integers up to 127 are exact in bfloat16, so each element is rounded once."""
    return weight.to(dtype).mul_(scale.to(dtype)[:, None])


def to_int8(transformer: nn.Module) -> None:
    """Replaces every linear layer of the blocks by its int8 form, in place. This is done one layer after another, so
    that only one exists twice at a time."""
    for block in blocks(transformer):
        for path, layer in list(block.named_modules()):
            if type(layer) is nn.Linear:
                parent, _, leaf = path.rpartition(".")
                setattr(block.get_submodule(parent), leaf, Int8Linear(layer))
