"""The studio's HTTP application: the page, its scripts, pictures of runs, the screens' routes, and the events.

It has no session and writes nothing by itself. What changes something is an action (POST) of a screen.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fewstep.run.studio.answers import StudioRefused, json_answer, refusal_answer
from fewstep.run.studio.events import Watch
from fewstep.run.studio.guard import Guard
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.studio import Screen, Studio, asked, number_of
from fewstep.run.studio.thumbnails import KINDS, forget_old, small_copy
from fewstep.runtime.errors import FewstepError

SCRIPTS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
TOKEN_PLACE = "{{page_token}}"


def studio_app(
    studio: Studio, shown: Sequence[Screen], *, host: str = "127.0.0.1", access_token: str | None = None
) -> ASGIApp:
    """The application behind its guard."""
    watch = Watch(studio)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(forget_old)
        yield
        for end in (studio.jobs.end, *studio.at_end):
            await anyio.to_thread.run_sync(end)

    async def page(request: Request) -> Response:
        text = (_static() / "index.html").read_text(encoding="utf-8").replace(TOKEN_PLACE, studio.page_token)
        return HTMLResponse(text, headers={"Cache-Control": "no-store"})

    async def screens(request: Request) -> Response:
        return json_answer({"screens": [{"name": each.name, "title": each.title} for each in shown]})

    async def picture(request: Request) -> Response:
        return await _picture(studio, request)

    routes = [
        Route("/", page),
        Route("/static/{path:path}", _script),
        Route("/picture", picture),
        Route("/api/screens", screens),
        watch.route(),
        *(route for screen in shown for route in screen.routes(studio)),
    ]
    handlers: Any = {StudioRefused: _refused, FewstepError: _ours, OSError: _disk, HTTPException: _unknown}
    app = Starlette(routes=routes, exception_handlers=handlers | {Exception: _broken}, lifespan=lifespan)
    return Guard(app, page_token=studio.page_token, access_token=access_token, host=host)


async def _script(request: Request) -> Response:
    path = file_inside(_static(), request.path_params["path"])
    if path.suffix not in SCRIPTS:
        raise StudioRefused("there is no such file", 404)
    return Response(path.read_bytes(), headers={"Cache-Control": "no-cache"}, media_type=SCRIPTS[path.suffix])


async def _picture(studio: Studio, request: Request) -> Response:
    """/picture?run=NAME&path=samples/pictures/teacher-00.png[&side=320]"""

    def chosen() -> tuple[bytes, str]:
        path = file_inside(studio.run(asked(request, "run")).folder, asked(request, "path"))
        if path.suffix.lower() not in KINDS:
            raise StudioRefused("only pictures are shown", 403)
        side = request.query_params.get("side")
        shown = path if side is None else small_copy(path, number_of(side))
        return shown.read_bytes(), KINDS[shown.suffix.lower()]

    data, kind = await anyio.to_thread.run_sync(chosen)
    return Response(data, headers={"Cache-Control": "private, max-age=30"}, media_type=kind)


def _static() -> Path:
    return Path(str(resources.files("fewstep") / "run" / "studio" / "static"))


async def _refused(request: Request, error: StudioRefused) -> Response:
    return refusal_answer(error.sentence, error.status)


async def _ours(request: Request, error: FewstepError) -> Response:
    return refusal_answer(str(error), 400)


async def _disk(request: Request, error: OSError) -> Response:
    """A file that went away meanwhile, or may not be read."""
    name = Path(str(error.filename)).name if error.filename else "a file"
    return refusal_answer(f"{name}: {error.strerror or 'cannot be read'}", 404)


async def _unknown(request: Request, error: HTTPException) -> Response:
    return refusal_answer(f"{request.method} {request.url.path:.100} is not served here", error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours; uvicorn logs it."""
    return refusal_answer("the studio failed at this; what it printed says why", 500)
