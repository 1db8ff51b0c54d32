"""A chat endpoint on loopback that does what a script says: real HTTP, every oddity on demand, every request kept."""

import http.server
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """One request. number: from 0, in order of arrival; at: monotonic seconds."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    def texts(self) -> str:
        """All text of the messages."""
        found = []
        for message in self.body["messages"]:
            content = message["content"]
            found += [content] if isinstance(content, str) else [p["text"] for p in content if p["type"] == "text"]
        return "\n".join(found)

    def pictures(self) -> list[str]:
        """The pictures' data addresses."""
        parts = [p for m in self.body["messages"] if isinstance(m["content"], list) for p in m["content"]]
        return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


@dataclass(frozen=True)
class Sent:
    """An answer. The body goes out in pieces with a pause before each; torn: the connection ends within the body."""

    status: int
    pieces: tuple[bytes, ...]
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    pause: float = 0.0
    torn: bool = False


Script = Callable[[Call], Sent]


def says(
    text: str | None,
    model: str | None = None,
    finish: str = "stop",
    usage: tuple[int, int] | None = (1000, 100),
    refusal: str | None = None,
    pause: float = 0.0,
) -> Script:
    """A complete answer; `model` None repeats the name that was asked for."""

    def script(call: Call) -> Sent:
        content: dict[str, Any] = {
            "model": model or call.body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish,
                    "message": {"role": "assistant", "content": text, "refusal": refusal},
                }
            ],
        }
        if usage is not None:
            content["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        return Sent(200, (json.dumps(content).encode(),), pause=pause)

    return script


def fails(status: int, message: str = "no", code: str | None = None, retry_after: str | None = None) -> Script:
    """An error in the shape of OpenAI's."""
    headers = [("Content-Type", "application/json")]
    headers += [("Retry-After", retry_after)] if retry_after is not None else []
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return lambda call: Sent(status, (body,), tuple(headers))


def page(status: int = 200) -> Script:
    return lambda call: Sent(status, (b"<!doctype html><title>Welcome</title>",), (("Content-Type", "text/html"),))


def raw(body: bytes, status: int = 200) -> Script:
    return lambda call: Sent(status, (body,))


def hangs(seconds: float) -> Script:
    """Headers, then nothing for so long."""
    return lambda call: Sent(200, (b"{}",), pause=seconds)


def drips(seconds: float) -> Script:
    """A byte now and then, without end."""
    return lambda call: Sent(200, (b" ",) * 1000, pause=seconds)


def breaks() -> Script:
    """The connection ends in the middle of the answer."""
    return lambda call: Sent(200, (b'{"choices": [',), torn=True)


def streams(text: str, finish: str | None = "stop") -> Script:
    """Server-sent events, a piece for each word; without `finish` it breaks off."""

    def script(call: Call) -> Sent:
        words = text.split(" ")
        deltas: list[dict[str, Any]] = [
            {"choices": [{"delta": {"content": word if i == 0 else f" {word}"}, "finish_reason": None}]}
            for i, word in enumerate(words)
        ]
        if finish is not None:
            deltas.append({"choices": [{"delta": {}, "finish_reason": finish}]})
            deltas.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(words)}})
        events = [f"data: {json.dumps({'model': call.body['model'], **delta})}\n\n".encode() for delta in deltas]
        events += [b"data: [DONE]\n\n"] if finish is not None else []
        return Sent(200, tuple(events), (("Content-Type", "text/event-stream; charset=utf-8"),))

    return script


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError | json.JSONDecodeError):
            super().handle_error(request, client_address)


class FaultServer:
    """Answers the n-th request with the n-th script, the last one for ever; or with what one function decides."""

    def __init__(self, scripts: Sequence[Script] | Script):
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._scripts = scripts
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrived(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Sent:
        with self._lock:
            call = Call(len(self.calls), path, headers, body, time.monotonic())
            self.calls.append(call)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        scripts = self._scripts
        script = scripts if callable(scripts) else scripts[min(call.number, len(scripts) - 1)]
        return script(call)

    def left(self) -> None:
        with self._lock:
            self._at_once -= 1

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet: two would wait for each other (Nagle)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                sent = server.arrived(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                try:
                    self._send(sent)
                except OSError:  # the client is gone
                    self.close_connection = True
                finally:
                    server.left()

            def _send(self, sent: Sent) -> None:
                self.send_response(sent.status)
                for name, value in sent.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(sum(map(len, sent.pieces)) + 10 * sent.torn))
                self.end_headers()
                for piece in sent.pieces:
                    if sent.pause:
                        self.wfile.flush()
                        time.sleep(sent.pause)
                    self.wfile.write(piece)
                self.wfile.flush()
                self.close_connection = sent.torn

            def log_message(self, *words: object) -> None:
                pass

        return Handler
