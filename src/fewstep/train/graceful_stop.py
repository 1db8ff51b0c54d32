"""Ctrl-C and SIGTERM end a run after the present iteration, not in the middle of it."""

import signal
import threading
from types import FrameType


class GracefulStop:
    """A context in which the first SIGINT or SIGTERM is only recorded in `asked`. A second one acts as it does
    outside."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        self.__exit__()
