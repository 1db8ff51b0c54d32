"""How many threads torch uses on a CPU, and how they wait for each other. OpenMP reads both when torch is loaded, so
they have to be settled before.

OpenMP's threads spin by default: a thread that is done keeps its processor busy until the others are. Beside other work
that is ruinous. The thread that the others wait for is one that the kernel has put aside, and they burn the time in
which it could run, at every small product again: with 8 busy processes beside 2 threads an iteration of the pocket
recipe took over 130 s instead of 1.2 (benchmarks/busy.py). Threads that sleep at once give the time away, but waking
them is not free: on a virtual machine of two processors, an iteration on two threads took 3.3 s (T2I) and 4.4 s (edit)
asleep and 1.4 and 1.9 s after a short spin. Beside 8 busy processes, products of the pocket's size took 9.2 ms asleep,
9.5 ms after the short spin and 15.6 ms with a long one.
"""

import os
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPINS = "10000"  # ours: turns of GNU's OpenMP before a thread sleeps, some tens of microseconds
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of Linux's cgroup v2


def settle_openmp(quota: Path = QUOTA) -> None:
    """Asks for threads that soon sleep while they wait, and for no more of them than a container's quota lets run. What
    the user has set in the environment stays as it is."""
    if not any(name in os.environ for name in WAITING):
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPINS}
    usable = processor_quota(quota)
    if usable is not None and "OMP_NUM_THREADS" not in os.environ and usable < (os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(usable)))


def processor_quota(quota: Path = QUOTA) -> float | None:
    """How many processors a container may keep busy (docker --cpus, a limit of Kubernetes); None without a quota.
    Processes inside see all processors of the machine. With a thread for each, most wait for the next period."""
    try:
        most, period = quota.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no quota
        return None
