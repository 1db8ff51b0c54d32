"""What long work tells whoever watches it. Rooms speak through this; only the command line knows a terminal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

Kind = Literal["note", "result", "warning"]
Advance = Callable[..., None]
"""advance(count=1, details=""): so many more are done; details say how it stands."""


class Reporter(Protocol):
    """Where messages and progress go."""

    def say(self, text: str, kind: Kind = "note") -> None:
        """One message. A warning is something that is rarely meant; a result names what was made."""

    def progress(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """Work of known length. Inside, what it gives is called as parts are done."""

    def waiting(self, label: str) -> AbstractContextManager[None]:
        """Work of unknown length, as long as the context is open."""


class Silent:
    """Nobody watches."""

    def say(self, text: str, kind: Kind = "note") -> None:
        pass

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        yield lambda count=1, details="": None

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        yield


SILENT = Silent()
