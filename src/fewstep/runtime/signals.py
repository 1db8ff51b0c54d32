"""SIGTERM ends a command as Ctrl-C does: what it holds is written, and it says how to go on.

Exit codes are the shell's: 128 + the signal's number, so 130 after SIGINT and 143 after SIGTERM. A scheduler that
preempts a job can tell that from 2, which means that something has to be mended first.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, where nothing was waiting for it."""


def exit_code(number: int) -> int:
    return 128 + number


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises `Terminated` inside. Python allows handlers in the main thread only; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated
