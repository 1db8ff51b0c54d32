"""How the weights of a frozen base are held (`run.base_weights`): which numbers, and which products."""

import torch
from torch import nn

from fewstep.backbones.fp8 import FP8
from fewstep.backbones.int8 import INT8
from fewstep.backbones.rounded_linear import LEAST_ROWS, NEVER, NumberFormat, round_blocks
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.errors import EnvironmentRefused

FP8_CAPABILITY = (8, 9)  # CUDA's first with fp8 units: Ada; then Hopper and Blackwell
ROUNDED: dict[BaseWeights, tuple[NumberFormat, float]] = {  # numbers, and the least rows of a product in 8 bits
    "int8": (INT8, NEVER),
    "int8-w8a8": (INT8, LEAST_ROWS),
    "fp8-w8a8": (FP8, LEAST_ROWS),
}


def hold_base_as(transformer: nn.Module, how: BaseWeights) -> None:
    """Rounds the linear layers of the blocks as `how` says, in place."""
    if how != "precision":
        round_blocks(transformer, *ROUNDED[how])


def refuse_products(device: torch.device, how: BaseWeights) -> None:
    """
    Raises:
        EnvironmentRefused: the device has no products in 8 bits. A CPU has them.
    """
    if device.type == "cpu" or how not in ("int8-w8a8", "fp8-w8a8"):
        return
    name = f"device {device}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if how == "int8-w8a8" or (torch.version.hip is None and has_fp8(torch.cuda.get_device_capability(device))):
            return
    asked = "fp8 (NVIDIA from compute capability 8.9 on)" if how == "fp8-w8a8" else "int8"
    other = "int8-w8a8, int8" if how == "fp8-w8a8" and device.type == "cuda" else "int8"
    raise EnvironmentRefused(
        f"run.base_weights is {how}, and {name} has no products in {asked}. "
        f"Set run.base_weights: {other} or precision, or use another device"
    )


def has_fp8(capability: tuple[int, int]) -> bool:
    """Whether a CUDA device of this compute capability has fp8 units."""
    return capability >= FP8_CAPABILITY
