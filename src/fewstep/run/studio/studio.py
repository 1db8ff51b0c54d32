"""What all screens of the studio share."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fewstep.run.studio.answers import StudioRefused, json_answer
from fewstep.run.studio.jobs import Jobs
from fewstep.run.studio.places import RunPlaces
from fewstep.run.studio.run_view import RunView
from fewstep.runtime.strict_json import load_json

PATIENCE_SECONDS = 0.7
MOST_JSON = 128 * 1024  # bytes of an action's body


@dataclass
class Studio:
    """places: the runs. page_token: what actions state. closing: set when the studio ends, so that streams end. at_end:
    called when it has answered all."""

    places: RunPlaces
    jobs: Jobs
    page_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    closing: bool = False
    at_end: list[Callable[[], None]] = field(default_factory=list)
    _views: dict[Path, RunView] = field(default_factory=dict)

    def run(self, name: str) -> RunView:
        """
        Raises:
            StudioRefused: no such run.
        """
        return self._view(name, self.places.folder(name))

    def runs(self) -> list[RunView]:
        return [self._view(name, folder) for name, folder in self.places.runs().items()]

    def summaries(self) -> list[tuple[RunView, dict[str, Any] | None]]:
        """Every run with its line of the list; None for runs that would take longer than `PATIENCE_SECONDS` together to
        read for the first time. They are read by later calls."""
        until, found = time.monotonic() + PATIENCE_SECONDS, []
        for view in self.runs():
            late = time.monotonic() > until and not view.is_read
            found.append((view, None if late else view.summary()))
        return found

    def _view(self, name: str, folder: Path) -> RunView:
        held = self._views.get(folder)
        if held is None or held.name != name:
            held = self._views[folder] = RunView(name, folder)
        return held


@dataclass(frozen=True)
class Screen:
    """One screen: `static/screens/NAME.js` draws it, and `routes` give it what it shows.

    Args:
        name: in the address (`#/NAME`), and of its script.
        title: in the navigation; empty for a screen that others lead to.
        routes: made once for a studio. Their paths begin with /api/NAME/.
    """

    name: str
    title: str
    routes: Callable[[Studio], Sequence[Route]]


def reading(path: str, answer: Callable[[Request], Any]) -> Route:
    """A GET whose answer is the JSON of what `answer` returns. It is called in a thread, so it may read files."""

    async def route(request: Request) -> Response:
        return await _answered(answer, request)

    return Route(path, route, methods=["GET"])


def acting(path: str, act: Callable[[dict[str, Any]], Any]) -> Route:
    """A POST with a JSON object, which `act` gets, in a thread. The guard has asked for the page's token."""

    async def route(request: Request) -> Response:
        fields = await _fields(request)
        return await _answered(act, fields)

    return Route(path, route, methods=["POST"])


def asked(request: Request, name: str) -> str:
    """A field of the address.

    Raises:
        StudioRefused: it is missing.
    """
    if name not in request.query_params:
        raise StudioRefused(f"{name} is missing in {request.url.path}")
    return request.query_params[name]


def text_field(fields: dict[str, Any], name: str, otherwise: str | None = None) -> str:
    """A text of an action's fields.

    Raises:
        StudioRefused: it is missing and has no default, or is no text.
    """
    value = fields.get(name, otherwise)
    if not isinstance(value, str) or "\0" in value or len(value) > 20_000:
        raise StudioRefused(f"{name} is missing, or is no text")
    return value


def number_of(text: str) -> int:
    """The whole number that a field of the address states; -1 for anything else, and for more digits than any number
    here has."""
    return int(text) if text.isdecimal() and len(text) < 10 else -1


async def _answered(answer: Callable[[Any], Any], given: Any) -> Response:
    def text() -> Response:
        return json_answer(answer(given))  # large answers are written in the thread too

    return await anyio.to_thread.run_sync(text)


async def _fields(request: Request) -> dict[str, Any]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_JSON:
            raise StudioRefused(f"an action has at most {MOST_JSON:,} bytes", 413)
    try:
        held = load_json(body)
    except ValueError as error:
        raise StudioRefused("an action is a JSON object") from error
    if not isinstance(held, dict):
        raise StudioRefused("an action is a JSON object")
    return held
