"""How the weights of a frozen base are held (`run.base_weights`): which numbers, and which products."""

import torch
from torch import nn

from fewstep.backbones.fp8 import FP8
from fewstep.backbones.int8 import INT8
from fewstep.backbones.rounded_linear import LEAST_ROWS, NEVER, NumberFormat, round_blocks
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.errors import EnvironmentRefused

# CUDA's first compute capabilities with units for such products: Turing; and Ada, then Hopper and Blackwell. cuBLAS
# refuses int8 on Pascal and Volta, or takes it in other ways (bitsandbytes' issues 118 and 444).
CAPABILITY: dict[BaseWeights, tuple[int, int]] = {"int8-w8a8": (7, 5), "fp8-w8a8": (8, 9)}
NEEDED: dict[BaseWeights, str] = {
    "int8-w8a8": "int8 (NVIDIA from compute capability 7.5 on)",
    "fp8-w8a8": "fp8 (NVIDIA from compute capability 8.9 on)",
}
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
    if device.type == "cpu" or how not in CAPABILITY or _has_products(device, how):
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"device {device}"
    other = "int8-w8a8, int8" if how == "fp8-w8a8" and _has_products(device, "int8-w8a8") else "int8"
    raise EnvironmentRefused(
        f"run.base_weights is {how}, and {name} has no products in {NEEDED[how]}. "
        f"Set run.base_weights: {other} or precision, or use another device"
    )


def _has_products(device: torch.device, how: BaseWeights) -> bool:
    if device.type != "cuda":
        return False
    if torch.version.hip is not None:
        return how == "int8-w8a8"
    return has_units(torch.cuda.get_device_capability(device), how)


def has_units(capability: tuple[int, int], how: BaseWeights) -> bool:
    """Whether a CUDA device of this compute capability has units for products in these 8 bits."""
    return capability >= CAPABILITY[how]
