"""Server-sent events: what changes in the folders, while somebody looks.

One task looks once a second and tells all pages, so fifty viewers cost hardly more than one. It looks at the list of
runs, and closely at the runs that are open in a page. Nothing is read while nobody looks.

    event: runs      lines of the list that are new or changed, and names that are gone
    event: run       of an open run: further points of its curves, and whether there are new pictures
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from fewstep.run.studio.answers import StudioRefused, json_text
from fewstep.run.studio.curves import figures_of_line
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.studio import Studio

log = logging.getLogger(__name__)

TICK = 1.0  # seconds
LIST_TICKS = 2  # the list is looked at every so many
MOST_LINES = 200  # of a run in one message; a page that gets `gap` asks for the whole again
READ_LINES = 8_000  # of a long run, into its curves, at each look
WAITING = 64  # messages of a page that does not read; then its stream ends, and the browser asks anew
ALIVE_SECONDS = 15.0  # after which a silent stream says that it is there


@dataclass(eq=False)
class Viewer:
    """One open page. run: the run that it shows."""

    run: str | None
    waiting: "asyncio.Queue[str]" = field(default_factory=lambda: asyncio.Queue(WAITING))
    lost: bool = False

    def tell(self, message: str) -> None:
        try:
            self.waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.lost = True


class Watch:
    """Looks at the folders for all viewers of a studio."""

    def __init__(self, studio: Studio):
        self.studio = studio
        self._viewers: set[Viewer] = set()
        self._list: dict[str, str] = {}  # name -> its line, as it was last told
        self._seen: dict[str, tuple[int, int, object]] = {}  # of open runs: generation, lines, what pictures there are
        self._task: asyncio.Task[None] | None = None

    def route(self) -> Route:
        return Route("/api/events", self.stream)

    async def stream(self, request: Request) -> Response:
        name = request.query_params.get("run")
        if name is not None:
            await anyio.to_thread.run_sync(self.studio.run, name)  # refuses one that is not there
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._messages(Viewer(name)), media_type="text/event-stream", headers=headers)

    async def _messages(self, viewer: Viewer) -> AsyncGenerator[str, None]:
        self._viewers.add(viewer)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield "retry: 2000\n\n" + _message("hello", {"viewers": len(self._viewers)})
            silent = 0.0
            while not (self.studio.closing or viewer.lost):
                try:
                    yield await asyncio.wait_for(viewer.waiting.get(), 0.5)
                    silent = 0.0
                except TimeoutError:
                    silent += 0.5
                    if silent >= ALIVE_SECONDS:
                        yield ": here\n\n"
                        silent = 0.0
        finally:
            self._viewers.discard(viewer)

    async def _look(self) -> None:
        tick = 0
        while self._viewers and not self.studio.closing:
            await asyncio.sleep(TICK)
            try:
                for name in {viewer.run for viewer in self._viewers if viewer.run is not None}:
                    message = await anyio.to_thread.run_sync(self._run_message, name)
                    self._tell(message, name)
                if tick % LIST_TICKS == 0:
                    self._tell(await anyio.to_thread.run_sync(self._list_message), None)
            except Exception:  # pages must not fall silent: the next look may go well
                log.exception("looking at the folders failed")
            tick += 1
        self._list.clear()
        self._seen.clear()

    def _tell(self, message: str | None, run: str | None) -> None:
        for viewer in list(self._viewers) if message else ():
            if run is None or viewer.run == run:
                viewer.tell(message or "")

    # ---- in threads

    def _list_message(self) -> str | None:
        told = self.studio.summaries()
        lines = {view.name: line for view, line in told if line is not None}
        texts = {name: json_text({k: v for k, v in line.items() if k != "memory"}) for name, line in lines.items()}
        changed = [lines[name] for name, text in texts.items() if self._list.get(name) != text]
        gone = sorted(self._list.keys() - {view.name for view, _ in told})
        self._list = texts
        return _message("runs", {"changed": changed, "gone": gone}) if changed or gone else None

    def _run_message(self, name: str) -> str | None:
        try:
            view = self.studio.run(name)
        except StudioRefused as refused:
            return _message("run", {"name": name, "gone": refused.sentence})
        with view.lock:
            view.metrics.update()
            view.metrics.read_on(READ_LINES)
            now = view.metrics.generation, view.metrics.trained, _pictures(view)
            before = self._seen.get(name)
            self._seen[name] = now
            if before is None or before == now:
                return None
            gap = before[0] != now[0] or now[1] - before[1] > MOST_LINES
            lines = [] if gap else view.metrics.lines(before[1], now[1])
        told: dict[str, Any] = {"name": name, "gap": gap, "pictures": before[2] != now[2]}
        told["points"] = [{"i": line["iteration"] + 1, "v": dict(figures_of_line(line))} for line in lines]
        return _message("run", told)


def _pictures(view: RunView) -> object:
    """Changes when the run has new pictures, examinations or events."""
    places = ("samples", "samples/pictures", "examination/results", "examination/pictures", "examination/judge")
    stamps = []
    for place in places:
        try:
            stamps.append((view.folder / place).stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return (*stamps, len(view.metrics.others))


def _message(event: str, value: Any) -> str:
    return f"event: {event}\ndata: {json_text(value)}\n\n"
