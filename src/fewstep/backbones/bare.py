"""A module without its weights: what a process is given that holds only a part of them, or takes them from another."""

import copy

import torch
from torch import Tensor, nn


def hollowed(transformer: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """The same module with its parameters on the meta device, and its buffers as they are. dtype: of both."""
    empty: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, dtype=dtype, device="meta"), p.requires_grad)
        for p in transformer.parameters()
    }
    return copy.deepcopy(transformer, empty | own_buffers(transformer, dtype))


def materialise(hollow: nn.Module, device: torch.device) -> None:
    """Memory for its parameters, whose values are then anything; buffers keep theirs."""
    buffers = {name: buffer.clone() for name, buffer in hollow.named_buffers()}
    hollow.to_empty(device=device)
    for name, buffer in hollow.named_buffers():
        buffer.copy_(buffers[name])


def own_buffers(transformer: nn.Module, dtype: torch.dtype | None) -> dict[int, object]:
    """A deep copy's memory of buffers: copies, in `dtype` where they are numbers with a point."""
    return {id(b): copied(b, dtype or b.dtype) for b in transformer.buffers()}


def copied(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In `dtype`, whole numbers as they are."""
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
