"""A reporter that keeps what it was told."""

from collections.abc import Iterator
from contextlib import contextmanager

from fewstep.runtime.reporter import Advance, MessageKind


class Recorded:
    """said: messages with their kind. done and totals: by label of a progress."""

    def __init__(self) -> None:
        self.said: list[tuple[MessageKind, str]] = []
        self.done: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.details: list[str] = []

    def say(self, text: str, kind: MessageKind = "note") -> None:
        self.said.append((kind, text))

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        self.done[label], self.totals[label] = done, total

        def advance(count: int = 1, details: str = "") -> None:
            self.done[label] += count
            self.details.append(details)

        yield advance

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        yield
