"""SIGTERM ends a command as Ctrl-C does: its work is saved, and a message says how to resume.

Exit codes are those of a shell: 128 + the signal's number, so 130 after SIGINT and 143 after SIGTERM. A scheduler that
preempts a job can distinguish that from 2, which means that the user has to correct something first.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM where nothing else handles it."""


def exit_code(number: int) -> int:
    return 128 + number


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`. Only the main thread may set handlers; in others nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_without_saving() -> None:
    """For workers that a pool ends by SIGTERM: they have nothing to save, and end without a traceback."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated
