"""A teacher whose weights wait on the CPU, and visit the device for its forwards alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.roles.network import Network


class OffloadedNetwork(Network):
    """Weights are frozen, so leaving costs nothing: the copy on the device is dropped, the CPU's is used again. They
    are pinned where the device is a GPU, so that a copy does not wait for the work queued before it."""

    def __init__(self, name: str, backbone: Backbone, transformer: nn.Module, precision: str, device: torch.device):
        super().__init__(name, backbone, transformer.requires_grad_(False), precision=precision)
        self._device, self._depth = device, 0
        tensors = [*transformer.parameters(), *transformer.buffers()]
        pinned = device.type == "cuda"
        self._homes: list[tuple[Tensor, Tensor]] = [(t, t.data.pin_memory() if pinned else t.data) for t in tensors]
        self._go_home()

    @contextmanager
    def active(self) -> Iterator[None]:
        """On the device inside; of nested uses the outermost moves."""
        self._depth += 1
        try:
            if self._depth == 1:
                for tensor, home in self._homes:
                    tensor.data = home.to(self._device, non_blocking=True, copy=True)
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._go_home()

    def _go_home(self) -> None:
        for tensor, home in self._homes:
            tensor.data = home
