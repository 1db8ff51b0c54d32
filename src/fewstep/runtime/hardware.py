"""What hardware this machine has, told in milliseconds and without torch."""

import ctypes
import sys
from pathlib import Path

DRIVER = {"win32": "nvcuda.dll"}.get(sys.platform, "libcuda.so.1")
AMD = Path("/dev/kfd")  # there where a GPU of AMD's can compute
CPU = Path("/proc/cpuinfo")
MODEL_KEYS = (  # of /proc/cpuinfo, on x86 and on ARM: what stays while the machine is the same
    *("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "cache size", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
)


def cuda_driver() -> list[int]:
    """What the CUDA driver answers, from which `torch.cuda.is_available()` follows. It is the result of its start, and
    if that is 0 the number of devices (those of CUDA_VISIBLE_DEVICES) and its version. Empty without a driver."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return []
    started = driver.cuInit(0)
    if started != 0:
        return [started]
    devices, version = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(devices))
    driver.cuDriverGetVersion(ctypes.byref(version))
    return [started, devices.value, version.value]


def processor_model() -> dict[str, str]:
    """What identifies the model of this machine's processor, with its instructions. Empty if it is not known here."""
    try:
        first = CPU.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip() in MODEL_KEYS}
