"""Who may ask the studio for something. It stands before every route.

- The name that the browser asked for (Host) is this machine's. A page of another site whose name was turned to
  127.0.0.1 (DNS rebinding) asks under its own name, and is refused.
- A request that another site's page sends is refused: by its Origin, and by what browsers say of it (Sec-Fetch-Site).
- An action (anything but GET and HEAD) states the token that the page carries, which no other site can read.
- Where an access token is set, nothing is answered without it. It comes once in the address, and stays as a cookie.
"""

import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fewstep.run.studio.answers import refusal_answer
from fewstep.runtime.listening import LOCAL

COOKIE, PAGE_TOKEN = "fewstep_studio", "x-studio-token"
READING = ("GET", "HEAD")
HEADERS = {
    # Scripts and styles are files of the studio alone, so text of a prompt can never run.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware. page_token: what actions state. access_token: asked of everyone where it is set. host: the
    address that is listened at, a further name of this machine."""

    def __init__(self, app: ASGIApp, *, page_token: str, access_token: str | None, host: str):
        self.app, self.page_token, self.access_token = app, page_token, access_token
        self._names = {*LOCAL, host.lower().strip("[]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        await (refused or self.app)(scope, receive, _with_headers(send))

    def _refused(self, scope: Scope) -> Response | None:
        headers, reading = Headers(scope=scope), scope["method"] in READING
        if not self._is_ours(headers.get("host", "")):
            return refusal_answer("this name is not this machine's; open the address that the studio printed", 403)
        if _is_foreign(headers, reading and scope["path"] == "/"):
            return refusal_answer("asked by a page of another site", 403)
        if self.access_token is not None and not self._may_enter(headers):
            return self._enter(scope)
        if not reading and not _equal(headers.get(PAGE_TOKEN, ""), self.page_token):
            return refusal_answer("this page is of an earlier studio; load it again", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether the Host header names this machine. Under an access token an address in digits does too, since a
        site has a name, and so do the machine's own names."""
        name = (urlsplit(f"//{host}").hostname or "") if _is_host(host) else ""
        if name in self._names:
            return True
        own = socket.gethostname().lower().partition(".")[0]
        return self.access_token is not None and bool(name) and (_is_address(name) or name.partition(".")[0] == own)

    def _may_enter(self, headers: Headers) -> bool:
        try:
            held = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return held is not None and _equal(held.value, self.access_token or "")

    def _enter(self, scope: Scope) -> Response:
        """The token of the address becomes a cookie, and leaves the address."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] != "/" or not _equal(given, self.access_token or ""):
            return refusal_answer("open the whole address that the studio printed, with its token", 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self.access_token or "", httponly=True, samesite="strict", path="/")
        return answer


def _equal(given: str, held: str) -> bool:
    return hmac.compare_digest(given.encode(), held.encode())


def _is_host(host: str) -> bool:
    try:
        urlsplit(f"//{host}")
    except ValueError:
        return False
    return bool(host) and not set(host) & set("/?#@\\ ")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_foreign(headers: Headers, opens_the_page: bool) -> bool:
    """Whether another site's page sent this. opens_the_page: following a link to the studio is no harm."""
    origin = headers.get("origin")
    if origin is not None and (not _is_host(origin.partition("//")[2]) or urlsplit(origin).netloc != headers["host"]):
        return True
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opens_the_page


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending
