"""One malformed input, a command that reads it, and what became of the two."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from fewstep.cli.main import app

PATIENCE = 60  # seconds, until a command counts as one that hangs


@dataclass(frozen=True)
class Attempt:
    """
    Args:
        kind: of the input, such as "recipe".
        what: what is wrong with it, in a few words.
        words: the command line, to be given in the input's folder.
        refused: the command must not end with 0. False where the input may turn out to be usable.
        told: a refusal has to hold one of these words. Where only another refusal can follow, accepting shows so.
        lost: what the command dropped without a word, found in another way; empty for nothing.
    """

    kind: str
    what: str
    words: tuple[str, ...]
    refused: bool = True
    told: tuple[str, ...] = ()
    lost: Callable[[], str] = str


@dataclass(frozen=True)
class Verdict:
    """What became of an attempt. cpu: seconds of the command, without those of importing what it needs."""

    attempt: Attempt
    code: int
    output: str
    fault: str
    cpu: float
    written: tuple[str, ...]
    lost: str

    @property
    def accepted(self) -> bool:
        """Silently: a code of 0 or another refusal where this was to be refused, or a picture that was lost."""
        if self.lost:
            return True
        if not self.attempt.refused or self.fault:
            return False
        return self.code == 0 or not (not self.attempt.told or any(word in self.output for word in self.attempt.told))

    @property
    def passed(self) -> bool:
        return not (self.fault or self.accepted or self.written or self.code not in (0, 1, 2, 3))


class Hangs(Exception):
    """A command took longer than PATIENCE."""


def tried(attempt: Attempt, folder: Path) -> Verdict:
    """Gives the command in this process, with `folder` as its working directory."""
    before, place = contents(folder), Path.cwd()
    os.chdir(folder)
    begun = time.process_time()
    try:
        with _within(PATIENCE):
            result = CliRunner().invoke(app, list(attempt.words), env={"COLUMNS": "200", "TERM": "dumb"})
        cpu, code, output = time.process_time() - begun, result.exit_code, result.output
        fault = "" if result.exception is None or isinstance(result.exception, SystemExit) else _last(result.exception)
    except Hangs:
        cpu, code, output, fault = time.process_time() - begun, -1, "", f"hangs: over {PATIENCE} s"
    finally:
        os.chdir(place)
    with suppress(UnicodeEncodeError):
        output.encode()
    fault = fault or ("a traceback is printed" if "Traceback (most recent call last)" in output else "")
    after = contents(folder) if code != 0 else before
    new = (path for path in after if after[path] != before.get(path))
    return Verdict(attempt, code, " ".join(output.split()), fault, cpu, tuple(new), attempt.lost())


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below, with its size and time; folders with neither."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        found[name] = (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


def _last(error: BaseException) -> str:
    """The error, and the last line of ours that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/fewstep/" in frame.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}: {error!s:.120}"


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise Hangs

    held = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, held)
