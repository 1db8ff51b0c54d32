"""Child processes that are killed, and waiting for them without knowing how long."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def child_process(work: Callable[[], object]) -> Iterator[int]:
    """The process number of a forked child that does `work`. It is killed, if nothing else ended it, and always
    waited for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the child starts none
        child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            work()
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "it had ended before it was killed"


def wait_until(done: Callable[[], object], seconds: float = 60) -> None:
    end_s = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end_s, "nothing happened"
        time.sleep(0.002)
