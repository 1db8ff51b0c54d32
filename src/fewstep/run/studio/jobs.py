"""Work that the studio starts as processes of their own: a run that goes on, an export, a plan. What loads a model or
takes long never runs in the studio itself, which stays small and answers at once.

Each is a `fewstep` command, as a user would type it, so the page can show the line to copy.
"""

import os
import secrets
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
from fewstep.run.studio.command_words import command_line, log_tail
from fewstep.run.studio.task_records import TaskRecord
from fewstep.runtime import durable

NOTHING: Mapping[str, str] = {}
RECORDED = "fewstep.run.studio.recorded_task"
MOST = 4  # that may work at a time, beside runs


@dataclass
class Job:
    """One process. log: what it prints. record: of a task that is found on the disk again."""

    id: str
    title: str
    words: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes]
    detached: bool
    began: float = field(default_factory=time.time)
    record: TaskRecord | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it is one of MOST. Runs are not."""
        return self.record is not None or not self.detached

    @property
    def code(self) -> int | None:
        """The exit code; None while it works."""
        return self.process.poll()

    @property
    def has_told(self) -> bool:
        """Whether its result is on the disk, so that its process is about to end."""
        told = None if self.record is None else self.record.as_dict()
        return told is not None and told["state"] != "working"

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
        record: TaskRecord | None = None,
        apart: bool = False,
        further: Mapping[str, str] = NOTHING,
    ) -> Job:
        """Starts `fewstep WORDS`.

        Args:
            log: where its output goes; a file of this studio if not given. It is appended to.
            detached: it outlives the studio, as a run does. Otherwise it ends with it.
            record: where the task is found again, with what it prints.
            apart: standard output goes to a file of its own, `record.result`.
            further: environment variables beside the studio's own.

        Raises:
            StudioRefused: too many work already, or the task itself does.
        """
        with self._lock:
            counted = record is not None or not detached
            if counted and sum(job.is_counted and job.code is None for job in self._jobs.values()) >= MOST:
                raise StudioRefused(f"{MOST} tasks of this studio are at work; wait for one of them", 429)
            if record is not None:
                _begin(record, title, words)
            durable.make_folder(self.folder)
            name = secrets.token_hex(6)
            place = record.log if record else log or self.folder / f"{name}.log"
            module = ["fewstep"] if record is None else [RECORDED, str(record.folder), record.name]
            result = record.result if record is not None and apart else None
            process = _started([*module, *words], place, result, detached, further)
            job = self._jobs[name] = Job(name, title, tuple(words), place, process, detached, record=record)
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
        self._end(self._jobs.get(name))

    def end_recorded(self, record: TaskRecord) -> None:
        """Ends what this studio started for a record, if it works; and removes the record, unless the work was done."""
        job = next((each for each in self._jobs.values() if each.record == record), None)
        self._end(job)
        told = record.as_dict()
        if told is not None and (told["state"] == "abandoned" or (told["state"] == "working" and job is not None)):
            record.remove()

    @staticmethod
    def _end(job: Job | None) -> None:
        if job is not None and not job.detached and job.code is None:
            with suppress(OSError):
                job.process.terminate()

    def end(self) -> None:
        """Ends what is not detached, and waits for what is about to end."""
        for name in list(self._jobs):
            self.end_one(name)
        for job in self.all():
            if not job.detached or job.has_told:
                with suppress(subprocess.TimeoutExpired):
                    job.process.wait(2)


def _begin(record: TaskRecord, title: str, words: Sequence[str]) -> None:
    told = record.as_dict()
    if told is not None and told["state"] == "working":
        raise StudioRefused(f"{title}: this is at work already", 409)
    record.begin(title, words)


def _started(
    words: Sequence[str], log: Path, result: Path | None, detached: bool, further: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", "PYTHONUNBUFFERED": "1", **further}
    try:
        with log.open("ab") as said, (result or Path(os.devnull)).open("wb") as apart:
            return subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=apart if result else said,
                stderr=said,
                env=environment,
                start_new_session=detached,
            )
    except OSError as error:
        raise StudioRefused(f"{log} cannot be written ({error.strerror})", 409) from error
