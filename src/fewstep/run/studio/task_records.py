"""Work of the studio that is found on the disk again: by another studio, or by this one after a restart.

    NAME.task.json    what was started and when; and how it ended, which the process itself writes (recorded_task.py)
    NAME.task.log     what it printed; the process holds a lock on it for as long as it lives
    NAME.task.out     what it printed to standard output, where that was asked for apart

A process that was killed leaves neither a word of its end nor its lock: its task is abandoned, as is one that was told
to stop. Records may lie in run folders, which anyone may have written: links are not followed, and nothing that a
record says is run.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.run.studio.command_words import command_line, log_tail
from fewstep.runtime import durable
from fewstep.runtime.strict_json import load_json

SUFFIX = ".task.json"
STOPPED = (130, 143)  # how a command ends that Ctrl-C or SIGTERM ended
LATEST = 1e12  # seconds since 1970; 31,000 years on
GRACE_SECONDS = 20.0  # ours: from its start until a process holds its log


@dataclass(frozen=True)
class TaskRecord:
    """folder: where its files lie. name: what they are called."""

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}{SUFFIX}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.task.log"

    @property
    def result(self) -> Path:
        return self.folder / f"{self.name}.task.out"

    def begin(self, title: str, words: Sequence[str]) -> None:
        """Before its process is started. What an earlier task of this name printed goes.

        Raises:
            EnvironmentRefused: the folder cannot be written.
        """
        durable.make_folder(self.folder)
        durable.write_atomically(self.log, "")
        self.result.unlink(missing_ok=True)
        self._write({"title": title, "words": list(words), "began": time.time()})

    def end(self, code: int) -> None:
        """Says how it ended. Nothing where the record was removed meanwhile, since nobody waits for it."""
        held = self._held()
        if held is not None:
            self._write({**held, "code": code, "ended": time.time()})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, the task lives, for every reader."""
        with self.log.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def as_dict(self) -> dict[str, Any] | None:
        """As of `Job`, with `when` it began; None where there is no record, or none that can be read. state: working,
        done, failed, abandoned."""
        held = self._held()
        if held is None:
            return None
        state, now = self._state(held), time.time()
        until = held["ended"] if _is_time(held.get("ended")) else now
        return {
            "id": self.name,
            "title": str(held["title"]),
            "words": held["words"],
            "command": command_line(held["words"]),
            "state": state,
            "code": held.get("code"),
            "when": held["began"],
            "seconds": None if state == "abandoned" else max(0.0, until - held["began"]),
            "tail": log_tail(self.log),
        }

    def remove(self) -> None:
        for path in (self.path, self.log, self.result):
            path.unlink(missing_ok=True)

    def _state(self, held: dict[str, Any]) -> str:
        code = held.get("code")
        if isinstance(code, int) and code not in STOPPED:
            return "done" if code == 0 else "failed"
        if code in STOPPED:
            return "abandoned"
        starting = 0 <= time.time() - held["began"] < GRACE_SECONDS and not log_tail(self.log)
        return "working" if starting or self._is_locked() else "abandoned"

    def _is_strange(self) -> bool:
        """Links, pipes and devices: to open a pipe waits for its other end."""
        files = (self.path, self.log, self.result)
        return any(path.is_symlink() for path in (self.folder, *files)) or any(
            path.exists() and not path.is_file() for path in files
        )

    def _is_locked(self) -> bool:
        try:
            with self.log.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _held(self) -> dict[str, Any] | None:
        if self._is_strange():
            return None
        try:
            held = load_json(self.path.read_bytes())
        except (OSError, ValueError):
            return None
        words = held.get("words") if isinstance(held, dict) else None
        whole = isinstance(words, list) and all(isinstance(word, str) for word in words)
        return held if whole and "title" in held and _is_time(held.get("began")) else None

    def _write(self, told: dict[str, Any]) -> None:
        durable.write_atomically(self.path, json.dumps(told, indent=1) + "\n")


def task_records(folder: Path) -> list[TaskRecord]:
    """Those of a folder, the newest first."""
    if not folder.is_dir() or folder.is_symlink():
        return []
    found = [path for path in folder.glob(f"*{SUFFIX}") if path.is_file() and not path.is_symlink()]
    found.sort(key=_written, reverse=True)
    return [TaskRecord(folder, path.name.removesuffix(SUFFIX)) for path in found]


def _is_time(told: Any) -> bool:
    """Seconds that can be counted with; a record may hold any number."""
    return isinstance(told, int | float) and 0 <= told < LATEST


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
