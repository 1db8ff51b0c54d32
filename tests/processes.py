"""Forked child processes, which can be killed, and waiting for them without knowing how long."""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import torch
from tqdm import tqdm

STUCK_S = 600  # a child that runs for longer prints where it is and ends; below what pyproject.toml gives a test


def own_progress_lock() -> None:
    """Gives tqdm a lock of this process alone. Its own is a semaphore that forked children share (tqdm 4.70): one that
    is killed -9 while it draws a bar holds it forever, and the next bar of any other process waits without end."""
    tqdm.set_lock(threading.RLock())  # type: ignore[no-untyped-call]


def begin_child(log: TextIO | None = None) -> None:
    """What every forked child does first. log: where it says that it is stuck."""
    own_progress_lock()  # the parent's may be held by a thread that is not in this process
    # faulthandler's own timer would wait for the parent's, which did not come along.
    faulthandler.register(signal.SIGALRM, file=log or sys.__stderr__ or sys.stderr, chain=True)
    signal.alarm(STUCK_S)
    torch.set_num_threads(1)


@contextmanager
def forking() -> Iterator[None]:
    """Python 3.12 warns of forking beside threads. Children start none of the parent's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def forked(work: Callable[[], object]) -> int:
    """The process number of a forked child that does `work`. It exits with 0, or with 1 if that raises."""
    with forking():
        child = os.fork()
    if child > 0:
        return child
    code = 1
    try:
        begin_child()
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@contextmanager
def child_process(work: Callable[[], object]) -> Iterator[int]:
    """`forked`, killed if nothing else ended it, and always waited for."""
    child = forked(work)
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
