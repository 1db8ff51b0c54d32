"""Every attempt to get an answer: one line each in an append-only file that is synced before the next request.

A request with an answer in the file is never sent again, whatever happens to the process. At most the requests in
flight when it was killed are sent twice. The file is locked while a pass writes it: two passes would send everything
twice.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from fewstep.bench.judge_requests import JudgeRequest
from fewstep.bench.lines import LineFields, mistyped
from fewstep.bench.protocol import WINNERS
from fewstep.bench.verdict import contradiction
from fewstep.runtime import durable
from fewstep.runtime.errors import JudgeError

RequestKey = tuple[str, int]
Attempt = dict[str, Any]
FIELDS: LineFields = {
    "key": "text",
    "repeat": "whole",
    "status": "text",
    "cost": "number?",
    "tokens": "object?",
    "score": "number?",
    "sub_scores": "numbers?",
    "winner": "text?",
}
STOPPED = "stopped"  # the endpoint denied this call and ended the run: no answer, so it is sent again, after the others


class Attempts:
    """The attempts of one file. Inside a `with` block the file is locked for this process."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: int | None = None
        self._standing: dict[RequestKey, Attempt] = {}
        self._denied: set[RequestKey] = set()
        self.spent = 0.0
        self.lines = 0
        self.cut_off = 0  # lines that a kill or a full disk left incomplete; their answers are asked for again
        self._read()

    def __enter__(self) -> Self:
        durable.make_folder(self.path.parent)
        self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise JudgeError(f"{self.path} is being written by another pass; wait for it, or stop it") from error
        self._read()  # another pass may have ended between the first look and the lock
        return self

    def __exit__(self, *error: object) -> None:
        assert self._lock is not None
        os.close(self._lock)

    def add(self, request: JudgeRequest, attempt: Mapping[str, Any]) -> None:
        """One more line, on disk before this returns."""
        line = {"key": request.key, "repeat": request.repeat, "at": _now(), **attempt}
        durable.append_jsonl(self.path, line)
        self._take(line)

    def result_of(self, request_key: RequestKey) -> Attempt | None:
        """The attempt that counts for a request: its first good answer, or else the last attempt. None if there is
        none."""
        return self._standing.get(request_key)

    def missing(self, wanted: Iterable[JudgeRequest]) -> list[JudgeRequest]:
        """The requests without an answer of any kind, each once. Those that the endpoint denied come last, so one bad
        case cannot keep the others from being asked."""
        found: dict[RequestKey, JudgeRequest] = {}
        for request in wanted:
            if request.request_key not in self._standing:
                found.setdefault(request.request_key, request)
        return sorted(found.values(), key=lambda request: request.request_key in self._denied)

    def unanswered(self, wanted: Iterable[JudgeRequest], only: Iterable[str] = ()) -> list[JudgeRequest]:
        """The requests that were sent and have no good answer, each once. `only`: these statuses, if any are given."""
        found: dict[RequestKey, JudgeRequest] = {}
        for request in wanted:
            held = self._standing.get(request.request_key)
            if held is not None and held["status"] != "ok" and (not only or held["status"] in only):
                found.setdefault(request.request_key, request)
        return list(found.values())

    def of(self, name: str) -> list[Any]:
        """The values of that field in the attempts that count."""
        return [held[name] for held in self._standing.values() if held.get(name) is not None]

    def _read(self) -> None:
        self._standing.clear()
        self._denied.clear()
        self.spent, self.lines, self.cut_off = 0.0, 0, 0
        for number, line in durable.numbered_records(self.path, self._count_cut_off):
            wrong = "no record" if line is None else mistyped(line, FIELDS) or _beyond(line)
            if line is None or wrong:
                raise JudgeError(
                    f"{self.path}:{number}: the line is no attempt of a judge ({wrong}); remove it, and its question "
                    "is asked again, or choose another name or folder"
                )
            self._take(line)

    def _count_cut_off(self, number: int) -> None:
        self.cut_off += 1

    def _take(self, line: Attempt) -> None:
        request_key = line["key"], int(line["repeat"])
        self.lines += 1
        self.spent += line.get("cost") or 0.0
        if line["status"] == STOPPED:
            self._denied.add(request_key)
        elif self._standing.get(request_key, {}).get("status") != "ok":
            self._standing[request_key] = line


def _beyond(line: Attempt) -> str | None:
    """What no judge can have answered, in words."""
    if line.get("winner") not in (None, *WINNERS):
        return f"winner is {line['winner']!r:.40}"
    return contradiction(line) if line["status"] == "ok" and line.get("winner") is None else None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
