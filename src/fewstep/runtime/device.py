"""The device and the precision of a run. There is no silent fallback: what is asked for is used, or refused."""

import gc
import os
from contextlib import AbstractContextManager

import torch

from fewstep.runtime.cpu_bfloat16 import bf16_against_fp32
from fewstep.runtime.errors import EnvironmentRefused

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
REFUSED_ABOVE = 2.0  # ours: seconds of products in bf16 over those in fp32, from which on a CPU is not asked for bf16
LOADED = (torch.float32, torch.bfloat16, torch.float16)  # what models are loaded as


def resolve_device(name: str, precision: str = "fp32") -> torch.device:
    """The device that `name` stands for: `auto`, `cpu`, `cuda` or `cuda:1`.

    `auto` is the GPU if there is one. Under torchrun `cuda` is the GPU of the process's local rank.

    Raises:
        EnvironmentRefused: the device, or the precision on it, is not available here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    local = os.environ.get("LOCAL_RANK", "")
    if name == "cuda" and local.isdecimal():
        name = f"cuda:{local}"
    return check_device(torch.float32 if precision == "auto" else PRECISIONS[precision], name)


def check_device(dtype: torch.dtype, device: torch.device | str) -> torch.device:
    """The device, after checking that it exists and supports the dtype.

    Raises:
        EnvironmentRefused: it does not.
    """
    if dtype not in LOADED:
        raise EnvironmentRefused(f"models are loaded as float32, bfloat16 or float16, not {dtype}")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise EnvironmentRefused(f"'{device}' is not a device; give cpu, cuda, cuda:<number> or mps") from error
    if device.type == "cuda":
        _check_cuda(dtype, device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentRefused("device mps was asked for, but this machine has none; give device: cpu")
    return device


def _check_cuda(dtype: torch.dtype, device: torch.device) -> None:
    if not torch.cuda.is_available():
        raise EnvironmentRefused(
            f"device {device} was asked for, but torch {torch.__version__} sees no CUDA device here. "
            "Give device: cpu, or install a CUDA build of torch on a machine with a GPU"
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentRefused(f"device {device} was asked for, but there are {torch.cuda.device_count()} GPUs here")
    if dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise EnvironmentRefused(
            f"{torch.cuda.get_device_name(device)} does not know bfloat16; ask for precision fp32, "
            "or use a GPU of compute capability 8.0 or later"
        )


def refuse_software_bfloat16(device: torch.device, precision: str) -> None:
    """Refuses a precision that this CPU would emulate in software.

    Raises:
        EnvironmentRefused: bf16 on a CPU without it.
    """
    if device.type == "cpu" and precision == "bf16" and bf16_against_fp32() > REFUSED_ABOVE:
        raise EnvironmentRefused(
            f"run.precision is bf16, which this CPU does not compute: torch would take {bf16_against_fp32():.2g} times "
            "as long as in fp32. Set run.precision: auto or fp32, or run on a GPU"
        )


def free_unused(device: torch.device) -> None:
    """Frees memory that no variable holds any more. Modules form reference cycles, which only the garbage collector
    frees, and CUDA's allocator caches what it once had."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_gigabytes(device: torch.device) -> float | None:
    """The most GPU memory that torch has given out so far, in GB of 10^9 bytes; None on a CPU. Asking does not wait."""
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context of forwards in a precision. Trained weights stay fp32 masters; autocast makes copies in bf16.

    Autocast's cache of these copies is off. It keeps the copy of a leaf weight until the outermost context ends. A copy
    made under no_grad has no gradient. If a later forward with gradient reused it, that forward would give the weight
    no gradient, without any error: the student would not learn. Here forwards of both kinds alternate.
    """
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False)


def to_device(made: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor, moved to a device. On its way to a GPU it is pinned: a copy from pageable memory would make the
    host wait for all work queued before it."""
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)
