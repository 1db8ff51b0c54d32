"""A frozen transformer in a byte a weight: the linear layers of its blocks as whole numbers with a scale.

For each output, W ~ scale w with w in -127 .. 127 and scale = max |W| / 127, so an element is off by at most scale / 2.
A product takes W back to the dtype of its input; nothing learns here, the gradient goes through to the input.
Embeddings, norms and what stands outside the blocks stay as they are: little memory, and every block's input.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.backbones.blocks import blocks

LEVELS = 127


class Int8Linear(nn.Linear):
    """A frozen linear layer; still an nn.Linear, so that adapters find and wrap it. weight: int8 (out, in); scale:
    (out,) in the dtype that the weight had."""

    scale: Tensor

    def __init__(self, linear: nn.Linear):
        nn.Module.__init__(self)  # nn.Linear's own would make the weights once more
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
    """x W^T + bias. Keeps the bytes for backward and takes them back a second time there: autograd's own product would
    keep the weights of every layer in full until then."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return functional.linear(x, dequantize(weight, scale, x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        weight, scale = ctx.saved_tensors
        return grads[0] @ dequantize(weight, scale, grads[0].dtype), None, None, None


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 (out, in) and the scale (out,) in the weight's dtype. Numbers are taken by the scale that is kept, so that
    its own rounding adds no error."""
    least = torch.finfo(weight.dtype).tiny  # a row of zeros
    scale = (weight.abs().amax(dim=1).float() / LEVELS).to(weight.dtype).clamp_min(least)
    return (weight.float() / scale.float()[:, None]).round().to(torch.int8), scale


def dequantize(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(out, in). Whole numbers up to 127 are exact in bfloat16, so an element is rounded once."""
    return weight.to(dtype).mul_(scale.to(dtype)[:, None])


def to_int8(transformer: nn.Module) -> None:
    """Every linear layer of the blocks, in place, one after another: never two copies of more than one."""
    for block in blocks(transformer):
        for path, layer in list(block.named_modules()):
            if type(layer) is nn.Linear:
                parent, _, leaf = path.rpartition(".")
                setattr(block.get_submodule(parent), leaf, Int8Linear(layer))
