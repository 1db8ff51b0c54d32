"""Drawings that were asked for, one after another, by a process of their own; and those of before.

A drawing and its pictures lie in a folder of the user's cache, so a browser that leaves loses nothing, and neither does
a studio that ends. The drawing process is started when something is to be drawn, and ended when nothing was for a
while.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.command_words import log_tail
from fewstep.run.studio.draw_models import DrawColumn
from fewstep.runtime import durable
from fewstep.runtime.errors import FewstepError
from fewstep.runtime.strict_json import load_json

IDLE_SECONDS = 120.0  # ours: then the models leave memory
GRACE_SECONDS = 10.0  # for a process that has closed its output to end
MOST_WAITING = 20
MOST_KEPT, MOST_BYTES = 300, 4 * 2**30  # of drawings; when the studio starts, the oldest beyond go
RECORD, LOG = "drawing.json", "drawing.log"
MODULE = "fewstep.run.studio.draw_worker"
UNFINISHED = ("waiting", "drawing")
ID = re.compile(r"[0-9a-f]{4,40}")
CELL = re.compile(r"(source-\d{1,2}|\d{1,2}-\d{1,20})")


@dataclass
class PlaygroundDrawing:
    """One call of the playground. cells: "COLUMN-SEED" -> file, nfe, steps, seconds, size. faults: by number of the
    column, why it has none. state: waiting, drawing, done, stopped. loading: the column that is being opened or drawn.
    allowed: it may be drawn beside a run that trains. note: what a reader should know of the prompt."""

    id: str
    asked: float
    prompt: str
    references: list[str]
    seeds: list[int]
    size: list[int] | None
    columns: list[dict[str, Any]]
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    state: str = "waiting"
    why: str = ""
    loading: int | None = None
    allowed: bool = False
    note: str = ""


class DrawQueue:
    """
    Args:
        folder: of drawings and photos.
        busy: the runs that train on this machine now, by name.
    """

    def __init__(self, folder: Path, busy: Callable[[], list[str]], device: str = "auto"):
        self.folder, self.photos = folder / "drawings", folder / "photos"
        self.device, self.busy = device, busy
        self.idle_seconds = IDLE_SECONDS
        self._drawings = {drawing.id: drawing for drawing in _kept(self.folder)}
        self._requests: dict[str, list[DrawColumn]] = {}
        self._waiting: list[str] = []
        self._changed = Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._heard: subprocess.Popen[bytes] | None = None  # which the thread listens to
        self._thread: Thread | None = None
        self._ended = False

    # ---- what a page asks

    def ask(
        self,
        prompt: str,
        references: Sequence[str],
        seeds: Sequence[int],
        size: tuple[int, int] | None,
        columns: Sequence[DrawColumn],
        allowed: bool,
    ) -> PlaygroundDrawing:
        """Puts a drawing at the end of the queue.

        Raises:
            StudioRefused: a run trains on this machine and `allowed` is false, or too many drawings wait.
        """
        self._refuse_beside(allowed)
        shown = [column.as_dict() for column in columns]
        drawing = PlaygroundDrawing(
            _new_id(), time.time(), prompt, list(references), list(seeds), None, shown, allowed=allowed
        )
        drawing.size = None if size is None else list(size)
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise StudioRefused(f"{MOST_WAITING} drawings wait already; let some be drawn", 429)
            self._keep(drawing)
            for i, photo in enumerate(references):  # its own, so that it stays when the photo goes
                shutil.copyfile(self.photos / f"{photo}.png", self.folder / drawing.id / f"source-{i}.png")
            self._drawings[drawing.id], self._requests[drawing.id] = drawing, list(columns)
            if self._thread is None:
                self._thread = Thread(target=self._work, name="drawings", daemon=True)
                self._thread.start()
            self._waiting.append(drawing.id)
            self._changed.notify_all()
        return drawing

    def drawings(self) -> list[PlaygroundDrawing]:
        """Newest first."""
        with self._changed:
            return sorted(self._drawings.values(), key=lambda drawing: -drawing.asked)

    def drawing(self, name: str) -> PlaygroundDrawing:
        """
        Raises:
            StudioRefused: there is none of that name.
        """
        if name not in self._drawings:
            raise StudioRefused("there is no such drawing (any more)", 404)
        return self._drawings[name]

    def picture(self, name: str, cell: str) -> Path:
        """The file of a cell, or of a reference ("source-0").

        Raises:
            StudioRefused: it is not there.
        """
        self.drawing(name)
        path = self.folder / name / f"{cell}.png"
        if not CELL.fullmatch(cell) or not path.is_file():
            raise StudioRefused("this picture is not there (any more)", 404)
        return path

    def cancel(self, name: str) -> None:
        """Takes a drawing off the queue, or stops it; what it has drawn stays."""
        with self._changed:
            drawing = self.drawing(name)
            if name in self._waiting:
                self._waiting.remove(name)
                self._end(drawing, "stopped", "taken off the queue")
            elif drawing.state == "drawing":
                drawing.why = "stopped"
                self._kill()

    def forget(self, name: str) -> None:
        """Removes a drawing that is not under way, with its pictures."""
        with self._changed:
            if self.drawing(name).state in UNFINISHED:
                raise StudioRefused("it is being drawn; stop it first", 409)
            del self._drawings[name]
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def unload(self) -> None:
        """Ends the drawing process, and with it every model."""
        with self._changed:
            if any(drawing.state == "drawing" for drawing in self._drawings.values()):
                raise StudioRefused("a drawing is under way; stop it first", 409)
            self._kill()

    @property
    def is_loaded(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None

    def end(self) -> None:
        """Called when the studio ends."""
        with self._changed:
            self._ended = True
            self._kill()
            self._changed.notify_all()

    # ---- the thread that draws

    def _work(self) -> None:
        while (drawing := self._next()) is not None:
            try:
                self._refuse_beside(drawing.allowed)
                for event in self._events(drawing):
                    self._take(drawing, event)
                self._end(drawing, "stopped" if drawing.why else "done", drawing.why)
            except StudioRefused as refused:
                self._end(drawing, "stopped", refused.sentence)
            except FewstepError as error:  # the disk is full
                self._end(drawing, "stopped", str(error))
            except (OSError, ValueError) as error:  # the process ended, perhaps within a line
                self._end(drawing, "stopped", drawing.why or self._death(error))
            self._hear_no_more(drawing)

    def _hear_no_more(self, drawing: PlaygroundDrawing) -> None:
        """A process whose drawing did not come to its end may still speak of it, so it is ended."""
        with self._changed:
            heard, self._heard = self._heard, None
            if heard is None:
                return
            if drawing.state == "stopped":
                heard.kill()
                heard.wait()
            if heard.poll() is not None:
                _close(heard)

    def _next(self) -> PlaygroundDrawing | None:
        """Waits for a drawing; ends the process where none comes for a while. None when the studio ends."""
        with self._changed:
            while not self._waiting and not self._ended:
                if not self._changed.wait(self.idle_seconds):
                    self._kill()
            if self._ended:
                return None
            drawing = self._drawings[self._waiting.pop(0)]
            drawing.state = "drawing"
            return drawing

    def _events(self, drawing: PlaygroundDrawing) -> Iterator[Mapping[str, Any]]:
        process = self._heard = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {
            "columns": [column.request() for column in self._requests.pop(drawing.id)],
            "prompt": drawing.prompt,
            "references": [str(self.picture(drawing.id, f"source-{i}")) for i in range(len(drawing.references))],
            "seeds": drawing.seeds,
            "size": drawing.size,
            "device": self.device,
            "folder": str(self.folder / drawing.id),
        }
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "end" in event:
                return
            yield event
        raise BrokenPipeError

    def _take(self, drawing: PlaygroundDrawing, event: Mapping[str, Any]) -> None:
        with self._changed:
            if "loading" in event:
                drawing.loading = event["loading"]
            elif "note" in event:
                drawing.note = str(event["note"])
            elif "error" in event:
                drawing.faults[str(event["column"])] = str(event["error"])
            else:
                told = {key: event[key] for key in ("file", "nfe", "steps", "seconds", "size", "guidance")}
                drawing.cells[f"{event['column']}-{event['seed']}"] = told
        self._keep(drawing)

    def _end(self, drawing: PlaygroundDrawing, state: str, why: str) -> None:
        drawing.state, drawing.why, drawing.loading = state, why, None
        self._requests.pop(drawing.id, None)
        with suppress(Exception):  # a full disk: the page still says it
            self._keep(drawing)

    def _death(self, error: Exception) -> str:
        process, code = self._heard, None
        with suppress(subprocess.TimeoutExpired):
            code = None if process is None else process.wait(GRACE_SECONDS)
        said = log_tail(self.folder / LOG).strip().splitlines()[-1:]
        told = f"; it said: {said[0][:300]}" if said else ""
        if code is not None and code < 0:
            return f"the drawing process was ended by signal {-code}; the machine may have run out of memory"
        return f"the drawing process ended with code {code}{told}" if code else f"it could not be drawn ({error})"

    def _started(self) -> "subprocess.Popen[bytes]":
        with self._changed:
            if self._process is None or self._process.poll() is not None:
                durable.make_folder(self.folder)
                with (self.folder / LOG).open("wb") as log:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", MODULE],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
                    )
            return self._process

    def _kill(self) -> None:
        """Ends the process. Where the thread listens to it, the thread hears its end, and closes what it reads."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process is not self._heard:
                _close(process)

    def _refuse_beside(self, allowed: bool) -> None:
        if not allowed and (training := self.busy()):
            raise StudioRefused(
                f"{training[0]} trains on this machine; a drawing would take its time and memory. Allow it, or wait",
                409,
            )

    def _keep(self, drawing: PlaygroundDrawing) -> None:
        durable.make_folder(self.folder / drawing.id)
        durable.write_atomically(self.folder / drawing.id / RECORD, json.dumps(asdict(drawing), ensure_ascii=False))


def _close(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not sent is of no use any more
            if pipe is not None:
                pipe.close()


def _new_id() -> str:
    """Ids sort by when they were asked for, to the microsecond."""
    ms, us = divmod(time.time_ns() // 1_000, 1_000)
    return f"{ms:012x}{us:03x}{secrets.token_hex(3)}"


def _kept(folder: Path) -> list[PlaygroundDrawing]:
    """The drawings of before. One that was under way when its studio ended is stopped."""
    found, held_bytes = [], 0
    for i, name in enumerate(sorted((path.name for path in folder.glob("*") if ID.fullmatch(path.name)), reverse=True)):
        held_bytes += sum(path.stat().st_size for path in (folder / name).glob("*"))
        if i >= MOST_KEPT or held_bytes > MOST_BYTES:
            shutil.rmtree(folder / name, ignore_errors=True)
            continue
        with suppress(OSError, ValueError, TypeError, KeyError):
            held = load_json((folder / name / RECORD).read_text(encoding="utf-8"))
            known = {each.name for each in fields(PlaygroundDrawing)}
            drawing = PlaygroundDrawing(**{key: value for key, value in held.items() if key in known} | {"id": name})
            if drawing.state in UNFINISHED:
                drawing.state, drawing.why, drawing.loading = "stopped", "the studio ended meanwhile", None
            found.append(drawing)
    return found
