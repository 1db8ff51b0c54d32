"""Whether this machine can hold a model where and as it was asked for. Asked before anything is loaded."""

import torch

from fewstep.runtime.errors import EnvironmentRefused

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def check_device(dtype: torch.dtype, device: torch.device | str) -> torch.device:
    """The device, once it is known to exist and to know the dtype.

    Raises:
        EnvironmentRefused: it does not; there is no silent fallback to another.
    """
    if dtype not in FLOATS:
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
