"""Messages and progress of long work. Rooms report through this; only the command line knows a terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

MessageKind = Literal["note", "result", "warning"]
Advance = Callable[..., None]
"""advance(count=1, details=""): so many more parts are done. details: the present state, for display."""


class Reporter(Protocol):
    """Takes messages and progress."""

    def say(self, text: str, kind: MessageKind = "note") -> None:
        """Takes one message. A warning is about something that is rarely intended. A result names what was made."""

    def progress(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """A context around work of known length. Call what it yields whenever parts are done."""

    def waiting(self, label: str) -> AbstractContextManager[None]:
        """A context around work of unknown length."""


class Silent:
    """Discards everything."""

    def say(self, text: str, kind: MessageKind = "note") -> None:
        pass

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        yield lambda count=1, details="": None

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        yield


SILENT = Silent()
