"""A module without its weights: what a process is given that holds only a part of them, or takes them from another."""

import copy

import torch
from torch import Tensor, nn


def meta_copy(transformer: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """The same module with its parameters on the meta device, and its buffers as they are. dtype: of both."""
    empty: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, dtype=dtype, device="meta"), p.requires_grad)
        for p in transformer.parameters()
    }
    return copy.deepcopy(transformer, empty | buffer_copies(transformer, dtype))


def materialise(module: nn.Module, device: torch.device) -> None:
    """Memory for its parameters, whose values are then anything; buffers keep theirs."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.to_empty(device=device)
    for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])


def buffer_copies(transformer: nn.Module, dtype: torch.dtype | None) -> dict[int, object]:
    """A deep copy's memory of buffers: copies, in `dtype` where they are numbers with a point."""
    return {id(b): cast_copy(b, dtype or b.dtype) for b in transformer.buffers()}


def cast_copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In `dtype`, whole numbers as they are."""
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
