"""Measures what a picture costs: forward calls as they happen, seconds by stage, peak memory."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fewstep.backbones.backbone import Backbone, Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout

Purpose = Literal["prefix", "evaluation"]


class CallCounter:
    """Wraps a family and counts the forward calls of its network, by a hook on the network, separately by purpose.

    Samples are counted, not batches: a forward over B rows is B calls. The prefix (text and references, once for each
    branch) is not a network evaluation of its own, and is counted separately.
    """

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.calls: dict[Purpose, int] = {"prefix": 0, "evaluation": 0}
        self._purpose: Purpose = "evaluation"

    @contextmanager
    def counting(self, transformer: nn.Module) -> Iterator["CallCounter"]:
        """Counts from zero until the context ends."""
        self.calls = {"prefix": 0, "evaluation": 0}
        hook = transformer.register_forward_pre_hook(self._note, with_kwargs=True)
        try:
            yield self
        finally:
            hook.remove()

    def noise_shape(self, layout: Layout) -> tuple[int, int]:
        return self.backbone.noise_shape(layout)

    def prefix(self, transformer: nn.Module, cond: Conditioning) -> Prefix | None:
        self._purpose = "prefix"
        try:
            return self.backbone.prefix(transformer, cond)
        finally:
            self._purpose = "evaluation"

    def velocity(
        self, transformer: nn.Module, z_BND: Tensor, t_B: Tensor, cond: Conditioning, prefix: Prefix | None = None
    ) -> Tensor:
        return self.backbone.velocity(transformer, z_BND, t_B, cond, prefix)

    def _note(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        rows = next(len(value) for value in (*args, *named.values()) if isinstance(value, Tensor))
        self.calls[self._purpose] += rows


def device_time_s(device: torch.device) -> float:
    """The time in seconds, after the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device: torch.device) -> float:
    """Peak memory in MiB. On a GPU, what torch had allocated since `reset_peak_memory`. On a CPU, what the process has
    ever held, model and libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # kilobytes on Linux
