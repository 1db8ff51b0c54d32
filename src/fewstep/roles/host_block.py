"""One block's weights in host memory, and copies of them on the device.

All weights of a block lie in one piece of memory, each at a multiple of 256 bytes (what kernels ask for). So a copy to
the device is one transfer. On a GPU it runs beside the computation, in a stream of its own, out of page-locked memory.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.runtime.errors import EnvironmentRefused

ALIGNMENT = 256  # bytes


@dataclass(frozen=True)
class DeviceCopy:
    """The weights of one block on the device. They may be read once `Courier.await_copy` was called for it.

    Args:
        whole: all bytes.
        views: the weights in them, in the block's order.
        arrived: what a GPU records behind the transfer; None where a copy is whole as soon as it is made.
    """

    whole: Tensor
    views: Sequence[Tensor]
    arrived: Any = None


class HostBlock:
    """A block whose weights are in host memory. They are the tensors that the block has now: what is added to it later,
    such as adapters, stays where it is."""

    def __init__(self, block: nn.Module, pinned: bool):
        """pinned: whether to lock the memory, so that a GPU reads it without a copy in between."""
        self.tensors: list[Tensor] = [*block.parameters(), *block.buffers()]
        self._forms = [(t.shape, t.dtype, t.numel() * t.element_size()) for t in self.tensors]
        with torch.no_grad():
            pieces = [piece for t in self.tensors for piece in _padded(t.detach().cpu())]
            self.whole = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.uint8)
        if pinned:
            _pin(self.whole)
        self._home = self.views(self.whole)
        self.go_home()

    @property
    def bytes(self) -> int:
        return self.whole.numel()

    def views(self, whole: Tensor) -> list[Tensor]:
        """The block's weights in a copy of `whole`."""
        made, at = [], 0
        for shape, dtype, size in self._forms:
            made.append(whole[at : at + size].view(dtype).view(shape))
            at += _rounded(size)
        return made

    def use(self, copy: DeviceCopy) -> None:
        """The block computes with this copy from now on."""
        _assign(self.tensors, copy.views)

    def go_home(self) -> None:
        """The block's weights are those in host memory. What autograd saved of a copy stays as it is."""
        _assign(self.tensors, self._home)


class Courier:
    """Copies blocks to a device. On a GPU in a stream of its own; elsewhere at once."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(self, block: HostBlock) -> DeviceCopy:
        """Begins a copy."""
        if self._stream is None:
            whole = block.whole.to(self._device, copy=True)
            return DeviceCopy(whole, block.views(whole))
        # The memory is taken from the computing stream, which will read it and give it back. What had it before may
        # still be running there, so the transfer waits for what is queued now, and overlaps with what comes next.
        whole = torch.empty_like(block.whole, device=self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            whole.copy_(block.whole, non_blocking=True)
            arrived = self._stream.record_event()
        return DeviceCopy(whole, block.views(whole), arrived)

    def await_copy(self, copy: DeviceCopy) -> None:
        """What is queued from now on, and who takes the copy's memory next, comes after the transfer."""
        if copy.arrived is not None:
            torch.cuda.current_stream(self._device).wait_event(copy.arrived)


def _assign(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data = value


def _padded(tensor: Tensor) -> list[Tensor]:
    flat = tensor.contiguous().view(-1).view(torch.uint8)
    return [flat, flat.new_zeros(_rounded(len(flat)) - len(flat))]


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _pin(whole: Tensor) -> None:
    """Locks memory that is there. torch's own `pin_memory` would round it up to a power of two.

    Raises:
        EnvironmentRefused: the system does not lock so much.
    """
    if not whole.numel():
        return
    cudart: Any = torch.cuda.cudart()
    if int(cudart.cudaHostRegister(whole.data_ptr(), whole.numel(), 0)):
        raise EnvironmentRefused(
            f"{whole.numel() / 1e9:.2f} GB of host memory could not be locked for a block that waits there. Free "
            "memory, or lower run.blocks_to_swap"
        )
    ending = weakref.finalize(whole.untyped_storage(), cudart.cudaHostUnregister, whole.data_ptr())
    ending.atexit = False  # the driver unlocks what a process leaves
