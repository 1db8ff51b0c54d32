"""A teacher whose weights stay on the CPU, and are copied to the device for its forwards only."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone
from fewstep.roles.network import Network


class OffloadedNetwork(Network):
    """A frozen network that is on the device only while it is active.

    Its weights never change, so nothing is copied back: the copy on the device is dropped. If the device is a GPU, the
    CPU's weights are in pinned memory, so that copying does not wait for the work queued before it.
    """

    def __init__(self, name: str, backbone: Backbone, transformer: nn.Module, precision: str, device: torch.device):
        super().__init__(name, backbone, transformer.requires_grad_(False), precision=precision)
        self._device, self._depth = device, 0
        tensors = [*transformer.parameters(), *transformer.buffers()]
        pinned = device.type == "cuda"
        self._homes: list[tuple[Tensor, Tensor]] = [(t, t.data.pin_memory() if pinned else t.data) for t in tensors]
        self._go_home()

    @contextmanager
    def active(self) -> Iterator[None]:
        """The weights are on the device inside. When uses are nested, only the outermost one copies."""
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
