"""Bodies that no client sends: whatever comes, the answer is JSON in OpenAI's form of errors, and no fault of ours."""

import asyncio
import json
import random
from typing import Any

import httpx
import pytest

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.sample.pictures import Model
from fewstep.sample.server.app import Server
from fewstep.sample.server.limits import Limits, RequestRefused
from tests.cli.malformed_files import PICTURES

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
NAMES = (
    b"prompt",
    b"image",
    b"image[]",
    b"n",
    b"size",
    b"svg[model]",
    b"",
    b'a\\"b',
    b"\xff\xfe",
    b"\0",
    b"a" * 70_000,
)
VALUES = (b"", b"a", b"\xff\xfe", b"1", b"64x64", b"+2AA-", b"a" * 200_000, b"\r\n--x\r\n", b"\0")
TYPES = (
    *("multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; boundary="),
    *("multipart/form-data; boundary=x; charset=nosuch", "multipart/form-data; boundary=x; charset=utf-7"),
    *("multipart/form-data; boundary=x; charset=utf-16", "multipart/form-data; boundary=x; charset=rot13"),
    *('multipart/form-data; boundary="x', "multipart/form-data; boundary=" + "x" * 300, "multipart/mixed; boundary=x"),
    *("multipart/form-data; boundary=x; charset=base64", "multipart/form-data; boundary=x; charset=idna"),
    *("multipart/form-data; boundary=x; charset=unicode_escape", "multipart/form-data; boundary=x; charset=punycode"),
)
COUNT = 200


def odd_form(rng: random.Random) -> tuple[str, bytes]:
    """A content type, and a form with something wrong in it."""
    parts = []
    for _ in range(rng.randrange(5)):
        name = rng.choice(NAMES)
        file = rng.choice([b"", b"", b'; filename="a.png"', b"; filename*=utf-8''%ff", b'; filename="\xff"'])
        begun = rng.choice([b'Content-Disposition: form-data; name="%s"', b"Content-Disposition: %s", b"X: %s"])
        more = [[], [b"Content-Type: text/plain; charset=nosuch"], [b"no colon"], [b": "], [b"A: " * 9000]]
        lines = [begun % name + file, *rng.choice(more)]
        parts.append(b"--x\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + rng.choice(VALUES) + b"\r\n")
    body = b"".join(parts) + rng.choice([b"--x--\r\n", b"--x--\r\n", b"", b"--x", b"--y--\r\n"])
    if rng.random() < 0.2:
        body = body[: rng.randrange(len(body) + 1)]
    return (TYPES[0] if rng.random() < 0.6 else rng.choice(TYPES)), body


def answers_to(model: Model, bodies: list[tuple[str, str, bytes]]) -> list[httpx.Response]:
    """Faults of the application are raised here, since the transport passes them on."""

    async def conversation() -> list[httpx.Response]:
        server = Server(model, "tiny", Limits())
        app = server.app()
        async with server._lifespan(app):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
                return [
                    await http.post(path, content=content, headers={"content-type": kind})
                    for path, kind, content in bodies
                ]

    return asyncio.run(conversation())


def refusal(answer: httpx.Response) -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert all(value is None or isinstance(value, str) for value in error.values())
    return dict(error)


@pytest.fixture(scope="module")
def model(backbone: QwenImage21) -> Model:
    return Model(backbone, 4, NO_GUIDANCE, (64, 64))


def test_forms(model: Model) -> None:
    forms = [odd_form(random.Random(seed)) for seed in range(COUNT)]
    for answer in answers_to(model, [(EDITS, *form) for form in forms]):
        refusal(answer)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(model: Model, name: str) -> None:
    """As files of cases bring them."""
    request = httpx.Request("POST", "http://x", data={"prompt": "a"}, files={"image": ("a.png", PICTURES[name]())})
    kind = request.headers["content-type"]
    (answer,) = answers_to(model, [(EDITS, kind, request.read())])
    assert refusal(answer)["param"] == "image"


JSON = {
    "half of a letter as a name": (rb'{"prompt": "a", "\ud800": 1}', "\\ud800"),
    "half of a letter as a value": (rb'{"prompt": "a", "user": "\udc00"}', "user"),
    "half of a letter as a model": (rb'{"prompt": "a", "model": "\udc00"}', "model"),
    "a name twice": (b'{"prompt": "a", "n": 1, "n": 4}', "n"),
    "a number of no size": (b'{"prompt": "a", "n": NaN}', "n"),
    "a list as model": (b'{"prompt": "a", "model": ["tiny"]}', "model"),
    "an object as stream": (b'{"prompt": "a", "stream": {}}', "stream"),
    "a list as format": (b'{"prompt": "a", "output_format": ["png"]}', "output_format"),
    "a truth as compression": (b'{"prompt": "a", "output_compression": true}', "output_compression"),
    "a number of 5,000 digits": (b'{"prompt": "a", "n": ' + b"9" * 5000 + b"}", None),
    "a long number as user": (b'{"prompt": "a", "user": ' + b"9" * 4000 + b"}", "user"),
    "a truth as count": (b'{"prompt": "a", "n": true}', "n"),
}


@pytest.mark.parametrize(("body", "param"), JSON.values(), ids=JSON)
def test_json(model: Model, body: bytes, param: str | None) -> None:
    (answer,) = answers_to(model, [(GENERATIONS, "application/json", body)])
    assert refusal(answer)["param"] == param


def test_a_refusal_can_be_sent_whatever_it_quotes() -> None:
    json.dumps(RequestRefused(400, "\ud800", "\udfff").body(), ensure_ascii=False).encode()


def test_a_fault_of_ours_is_no_plain_text(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fields: Any, *rest: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("fewstep.sample.server.app.parse_request", failing)

    async def talk() -> httpx.Response:
        transport = httpx.ASGITransport(Server(model, "tiny", Limits()).app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await http.post(GENERATIONS, json={"prompt": "a"})

    answer = asyncio.run(talk())
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
