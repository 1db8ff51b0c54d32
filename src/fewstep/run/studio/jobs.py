"""Work that the studio starts as processes of their own: a run that goes on, an export, a plan. What loads a model or
takes long never runs in the studio itself, which stays small and answers at once.

Each is a `fewstep` command, as a user would type it, so the page can show the line to copy.
"""

import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from fewstep.run.studio.answers import StudioRefused
from fewstep.runtime import durable

NOTHING: Mapping[str, str] = {}
MOST = 4  # that may work at a time, beside runs
TAIL = 6_000  # bytes of a log that are shown


@dataclass
class Job:
    """One process. log: what it prints. result: a file that holds what it printed to standard output, where that was
    asked for apart."""

    id: str
    title: str
    words: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes]
    detached: bool
    began: float = field(default_factory=time.time)
    result: Path | None = None

    @property
    def code(self) -> int | None:
        """The exit code; None while it works."""
        return self.process.poll()

    def as_dict(self) -> dict[str, Any]:
        code = self.code
        return {
            "id": self.id,
            "title": self.title,
            "command": command_line(self.words),
            "state": "working" if code is None else "done" if code == 0 else "failed",
            "code": code,
            "seconds": time.time() - self.began,
            "tail": log_tail(self.log),
        }


class Jobs:
    """folder: where logs of work lie that belongs to no run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._jobs: dict[str, Job] = {}
        self._lock = Lock()

    def start(
        self,
        title: str,
        words: Sequence[str],
        *,
        log: Path | None = None,
        detached: bool = False,
        apart: bool = False,
        further: Mapping[str, str] = NOTHING,
    ) -> Job:
        """Starts `fewstep WORDS`.

        Args:
            log: where its output goes; a file of this studio if not given. It is appended to.
            detached: it outlives the studio, as a run does. Otherwise it ends with it.
            apart: standard output goes to a file of its own, `result`.
            further: environment variables beside the studio's own.

        Raises:
            StudioRefused: too many work already.
        """
        with self._lock:
            if not detached and sum(not job.detached and job.code is None for job in self._jobs.values()) >= MOST:
                raise StudioRefused(f"{MOST} tasks of this studio are at work; wait for one of them", 429)
            name = secrets.token_hex(6)
            durable.make_folder(self.folder)
            place = log or self.folder / f"{name}.log"
            result = self.folder / f"{name}.out" if apart else None
            job = Job(name, title, tuple(words), place, _started(words, place, result, detached, further), detached)
            job.result = result
            self._jobs[name] = job
            return job

    def job(self, name: str) -> Job:
        """
        Raises:
            StudioRefused: no such job of this studio.
        """
        if name not in self._jobs:
            raise StudioRefused("this studio knows no such task; it may have been started anew", 404)
        return self._jobs[name]

    def all(self) -> list[Job]:
        return list(self._jobs.values())

    def end_one(self, name: str) -> None:
        """Ends a job that nobody waits for any more. One that is detached goes on."""
        job = self._jobs.get(name)
        if job is not None and not job.detached and job.code is None:
            with suppress(OSError):
                job.process.terminate()

    def end(self) -> None:
        """Ends what is not detached."""
        for name in list(self._jobs):
            self.end_one(name)
        for job in self.all():
            if not job.detached:
                with suppress(subprocess.TimeoutExpired):
                    job.process.wait(2)


def command_line(words: Sequence[str]) -> str:
    """As one would type it."""
    return shlex.join(["fewstep", *words])


def log_tail(path: Path) -> str:
    """The end of a log, by whole lines."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size <= TAIL else text.partition("\n")[2]


def _started(
    words: Sequence[str], log: Path, result: Path | None, detached: bool, further: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", "PYTHONUNBUFFERED": "1", **further}
    try:
        with log.open("ab") as said, (result or Path(os.devnull)).open("wb") as apart:
            return subprocess.Popen(
                [sys.executable, "-m", "fewstep", *words],
                stdin=subprocess.DEVNULL,
                stdout=apart if result else said,
                stderr=said,
                env=environment,
                start_new_session=detached,
            )
    except OSError as error:
        raise StudioRefused(f"{log} cannot be written ({error.strerror})", 409) from error
