"""Copies of modules without weights, for processes that hold only a shard of them, or get them from another process."""

import copy

import torch
from torch import Tensor, nn


def meta_copy(transformer: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of the module with parameters on the meta device, and with real buffers. dtype: of both, if given."""
    empty: dict[int, object] = {
        id(p): nn.Parameter(torch.empty_like(p, dtype=dtype, device="meta"), p.requires_grad)
        for p in transformer.parameters()
    }
    return copy.deepcopy(transformer, empty | buffer_copies(transformer, dtype))


def materialise(module: nn.Module, device: torch.device) -> None:
    """Allocates the module's parameters on a device. Their values are arbitrary. Buffers keep their values."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.to_empty(device=device)
    for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])


def buffer_copies(transformer: nn.Module, dtype: torch.dtype | None) -> dict[int, object]:
    """Copies of all buffers by id, as `copy.deepcopy` takes them. Floats are converted to `dtype` if it is given."""
    return {id(b): cast_copy(b, dtype or b.dtype) for b in transformer.buffers()}


def cast_copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in `dtype`; integers keep theirs."""
    return tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
