"""Keeps freed CPU memory in the process.

glibc gives every large block back to the kernel when it is freed. On a CPU, torch frees its activations in each
iteration, so the kernel zeroes the same pages again and again. Three switches of malloc end that. With another C
library nothing is done.
"""

import ctypes
import ctypes.util
import os
import sys

# mallopt's parameters, from malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = 2**31 - 1


def keep_freed_memory() -> bool:
    """Sets these switches for this process. Returns whether glibc accepted them. If the user has set GLIBC_TUNABLES,
    nothing is changed."""
    if not sys.platform.startswith("linux") or "GLIBC_TUNABLES" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEEP), (_TOP_PAD, 64 * 2**20))
    return all(mallopt(parameter, value) == 1 for parameter, value in wanted)
