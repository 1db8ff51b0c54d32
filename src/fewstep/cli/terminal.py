"""How messages and progress reach the user: bars on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from fewstep.runtime.reporter import Advance, MessageKind

LINE_EVERY_S = 30.0  # ours: between two lines of progress if there is no terminal
_STYLES: dict[MessageKind, str] = {"note": "", "result": "bold", "warning": "yellow"}


class TerminalReporter:
    """Writes to a rich console. A console that is no terminal (a file, a pipe, a batch system) gets a line of progress
    from time to time, because a bar would leave nothing there."""

    def __init__(self, console: Console | None = None, line_every_s: float = LINE_EVERY_S):
        self.console, self.line_every_s = console or Console(), line_every_s

    def say(self, text: str, kind: MessageKind = "note") -> None:
        """One message, on as many lines as it needs. No part of it is read as markup."""
        self.console.print(Text(text, _STYLES[kind]), soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Iterator[Advance]:
        """A bar that disappears when it is done, or lines."""
        if self.console.is_terminal:
            with self._bar(label, total, done) as advance:
                yield advance
        else:
            with self._lines(label, total, done) as advance:
                yield advance

    @contextmanager
    def waiting(self, label: str) -> Iterator[None]:
        """A spinner, or one line."""
        if self.console.is_terminal:
            with self.console.status(Text(label)):
                yield
        else:
            self.say(f"{label} ...")
            yield

    @contextmanager
    def _bar(self, label: str, total: int, done: int) -> Iterator[Advance]:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        tail = TextColumn("{task.fields[details]}", markup=False, style="dim")
        with Progress(*columns, TimeRemainingColumn(), tail, console=self.console, transient=True) as bar:
            task = bar.add_task(label, total=total, completed=done, details="")
            yield lambda count=1, details="": bar.update(task, advance=count, details=details)

    @contextmanager
    def _lines(self, label: str, total: int, done: int) -> Iterator[Advance]:
        lines = _ProgressLines(label, total, done)
        last_s = time.monotonic()

        def advance(count: int = 1, details: str = "") -> None:
            nonlocal last_s
            lines.add(count)
            if time.monotonic() - last_s >= self.line_every_s or (lines.done >= total > 0):
                last_s = time.monotonic()
                self.say(lines.line(details))

        yield advance


class _ProgressLines:
    """A line of progress: how much is done, at what rate, and how much is left."""

    def __init__(self, label: str, total: int, done: int):
        self.label, self.total, self.done, self.before = label, total, done, done
        self.begun_s = time.monotonic()

    def add(self, count: int) -> None:
        self.done += count

    def line(self, details: str) -> str:
        each_s = (time.monotonic() - self.begun_s) / max(1, self.done - self.before)
        left = f", {_duration(each_s * (self.total - self.done))} left" if self.done < self.total else ""
        return f"{self.label} {self.done:,} of {self.total:,}: {each_s:.3g} s each{left}" + (
            f"; {details}" if details else ""
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
