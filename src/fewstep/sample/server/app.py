"""The HTTP API, which clients of OpenAI's images API can call.

Pictures are returned as base64. Requests contain only text and uploaded pictures. Nothing is written to disk.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import anyio
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fewstep.runtime.errors import EnvironmentRefused
from fewstep.sample.pictures import Model
from fewstep.sample.server.body import (
    drain,
    form_fields,
    json_fields,
)
from fewstep.sample.server.front_page import front_page
from fewstep.sample.server.image_request import (
    ImageRequest,
    ServedModel,
    parse_request,
)
from fewstep.sample.server.limits import Limits, RequestRefused
from fewstep.sample.server.worker import Worker

UNHEALTHY_AFTER = 3  # pictures in a row that failed although their requests were valid
RETRY_SECONDS = 2  # after which a client should try again if the queue is full


class Server:
    """One model behind the routes of `app`.

    Raises:
        EnvironmentRefused: `limits` do not admit the student's own size.
    """

    def __init__(self, model: Model, name: str, limits: Limits, aliases: Sequence[str] = ()):
        backbone, (height, width) = model.backbone, model.size
        if limits.max_pixels is not None and limits.max_pixels < height * width:
            raise EnvironmentRefused(
                f"--max-pixels {limits.max_pixels:,} is less than the student's own {width}x{height} = "
                f"{height * width:,} pixels; raise it, or leave it out"
            )
        assert model.own_steps is not None, "a student is served"
        self.served = ServedModel(
            *(name, model.own_steps, model.size, backbone.size_multiple, backbone.max_references),
            aliases=tuple(dict.fromkeys(aliases)),
            max_pixels=limits.max_pixels,
        )
        self.limits = limits
        self.worker = Worker(model, limits)
        self._begun = int(time.time())
        self._taken = 0  # requests taken in and not yet answered

    def app(self) -> Starlette:
        routes = [
            Route("/", self.front),
            Route("/health", self.health),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/images/generations", self._admitted(self.generations), methods=["POST"]),
            Route("/v1/images/edits", self._admitted(self.edits), methods=["POST"]),
        ]
        handlers: Any = {RequestRefused: _refused, HTTPException: _not_served, ClientDisconnect: _disconnected}
        handlers |= {Exception: _broken}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.worker.start()
        yield
        await anyio.to_thread.run_sync(self.worker.close)

    # ---- routes

    async def front(self, request: Request) -> Response:
        """What this is, for whoever opens the address in a browser."""
        return HTMLResponse(front_page(self.served, str(request.base_url)))

    async def health(self, request: Request) -> Response:
        """200 as long as pictures can be made. A GPU that has failed once may fail for all later requests too. Weights
        that gave numbers that are not finite most likely will."""
        failed = self.worker.failed_in_a_row
        status = "the worker has stopped" if not self.worker.alive else "ok"
        if failed >= UNHEALTHY_AFTER:
            status = f"the last {failed} pictures failed: see the log, and start the server again"
        status = self.worker.model_fault or status
        alive = status == "ok"
        state: dict[str, Any] = {"status": status, "model": self.served.name}
        state |= {"requests": self._taken, "queue": self.limits.queue, "pictures_waiting": self.worker.waiting}
        return JSONResponse(state, 200 if alive else 503)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described(name) for name in self.served.names]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if not name:  # a slash too many
            return await self.models(request)
        if name not in self.served.names:
            here = ", ".join(self.served.names)
            raise RequestRefused(404, f"no model {name!r:.80} here; this server has {here}", "model", "model_not_found")
        return JSONResponse(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._begun, "owned_by": "fewstep"}

    async def generations(self, request: Request) -> Response:
        fields = await json_fields(request, self.limits)
        if "image" in fields:
            raise RequestRefused(400, "pictures are edited at /v1/images/edits, as an uploaded file", "image")
        return await self._drawn(request, parse_request(fields, (), self.served, self.limits))

    async def edits(self, request: Request) -> Response:
        fields, pictures = await form_fields(request, self.limits, self.served.max_references)
        return await self._drawn(request, parse_request(fields, pictures, self.served, self.limits))

    # ---- between routes and worker

    def _admitted(self, route: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Counts a request before its body is read, so that the bytes of waiting requests are bounded too."""

        async def admitted(request: Request) -> Response:
            if self._taken >= self.limits.queue:
                await drain(request.stream())
                raise RequestRefused(429, f"{self._taken} requests are waiting already; try again in {RETRY_SECONDS} s")
            self._taken += 1
            try:
                return await route(request)
            finally:
                self._taken -= 1

        return admitted

    async def _drawn(self, request: Request, asked: ImageRequest) -> Response:
        answers = self.worker.submit(asked)
        pictures = await _unless_gone(request, answers)
        data = [
            {"b64_json": await anyio.to_thread.run_sync(asked.packing.base64, picture), "seed": asked.seed + i}
            for i, picture in enumerate(pictures)
        ]
        size = "{}x{}".format(*pictures[0].size)
        told = {"created": int(time.time()), "output_format": asked.packing.format, "size": size}
        return JSONResponse({**told, "data": data})


async def _unless_gone(request: Request, answers: "list[Future[Image.Image]]") -> list[Image.Image]:
    """The pictures, unless the client disconnects: then those not begun are cancelled.

    Raises:
        RequestRefused: a picture failed.
        ClientDisconnect: the client has gone.
    """
    drawing = asyncio.gather(*(asyncio.wrap_future(answer) for answer in answers))
    drawing.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio logs it as lost
    leaving = asyncio.ensure_future(_left(request))
    either: list[asyncio.Future[Any]] = [drawing, leaving]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not drawing.done():
            raise ClientDisconnect
        return await drawing
    finally:
        leaving.cancel()
        drawing.cancel()


async def _left(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: RequestRefused) -> Response:
    headers = {"Retry-After": str(RETRY_SECONDS)} if error.status in (429, 503) else {}
    if error.status in (408, 413, 415, 429):
        headers["Connection"] = "close"  # the rest of the body is not read
    return JSONResponse(error.body(), error.status, headers)


async def _not_served(request: Request, error: HTTPException) -> Response:
    """The response for an unknown route or method."""
    known = "GET /health, GET /v1/models, GET /v1/models/NAME, POST /v1/images/generations, POST /v1/images/edits"
    refusal = RequestRefused(
        error.status_code, f"{request.method} {request.url.path:.100} is not served; there are {known}"
    )
    return JSONResponse(refusal.body(), error.status_code, error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours. Starlette would answer it in plain text; it logs the error all the same."""
    return JSONResponse(RequestRefused(500, "the server failed; its log says why").body(), 500)


async def _disconnected(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it
