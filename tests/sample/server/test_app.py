"""The server: pictures for valid requests, a clear 4xx for all others, and nothing that a request can break."""

import asyncio
import base64
import io
import json
import re
import struct
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch
from PIL import Image, ImageChops

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.sample.pictures import Model, generate_pictures, open_model
from fewstep.sample.server.app import Server
from fewstep.sample.server.image_request import ImageRequest
from fewstep.sample.server.limits import Limits, RequestRefused
from fewstep.sample.server.worker import Worker

LIMITS = Limits(queue=4, batch=4, max_pixels=128 * 128, max_reference_pixels=256 * 256, max_upload=200_000)
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


@pytest.fixture(scope="module")
def model(backbone: QwenImage21) -> Model:
    return Model(backbone, 4, NO_GUIDANCE, (64, 64))


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Requests go to the application itself; its lifespan is run by hand, as an ASGI server does."""
    app = server.app()
    async with server._lifespan(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            yield http


def asked(model: Model, talk: Callable[[httpx.AsyncClient], Awaitable[Any]], limits: Limits = LIMITS) -> Any:
    async def conversation() -> Any:
        async with client(Server(model, "tiny", limits)) as http:
            return await talk(http)

    return asyncio.run(conversation())


def png(size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, format="PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


def pictures_in(answer: httpx.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    return [Image.open(io.BytesIO(base64.b64decode(one["b64_json"]))) for one in answer.json()["data"]]


def opaque(picture: Image.Image) -> bytes:
    return picture.convert("RGB").tobytes()


def test_generations_are_the_samplers_pictures(model: Model) -> None:
    body = {"prompt": "a boat", "n": 2, "seed": 5, "size": "96x64", "response_format": "b64_json", "model": "tiny"}
    answer = asked(model, lambda http: http.post(GENERATIONS, json=body))
    expected = generate_pictures(model, ["a boat"] * 2, seed=5, size=(64, 96))
    assert [opaque(p) for p in pictures_in(answer)] == [opaque(p) for p in expected]
    assert [one["seed"] for one in answer.json()["data"]] == [5, 6]


def test_edits_are_the_samplers_pictures(model: Model) -> None:
    """In the reference's shape; several references as OpenAI's clients send them."""

    async def talk(http: httpx.AsyncClient) -> list[httpx.Response]:
        one = await http.post(
            EDITS, data={"prompt": "make it night", "seed": "3"}, files={"image": ("x.png", png((96, 64)))}
        )
        files = [("image[]", ("a.png", png())), ("image[]", ("b.png", png((32, 32))))]
        return [one, await http.post(EDITS, data={"prompt": "join them", "seed": "3"}, files=files)]

    one, two = asked(model, talk)
    sources = [Image.open(io.BytesIO(png(size))) for size in ((96, 64), (64, 64), (32, 32))]
    assert opaque(*pictures_in(one)) == opaque(*generate_pictures(model, ["make it night"], sources[:1], seed=3))
    assert opaque(*pictures_in(two)) == opaque(*generate_pictures(model, ["join them"], sources[1:], seed=3))


def test_a_picture_does_not_depend_on_its_neighbours(model: Model) -> None:
    """Prompts of several lengths and sizes at once: every one is what it is alone, to the last bit of a level."""
    bodies = [{"prompt": "a boat " * (1 + i % 2), "seed": i, "size": ("64x64", "64x96")[i // 4]} for i in range(8)]

    async def talk(http: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(http.post(GENERATIONS, json=body) for body in bodies))

    answers = asked(model, talk, Limits(queue=8, batch=4))
    for body, answer in zip(bodies, answers, strict=True):
        width, height = map(int, body["size"].split("x"))
        alone = generate_pictures(model, [body["prompt"]], seed=body["seed"], size=(height, width))
        gap = ImageChops.difference(*(picture.convert("RGB") for picture in (*pictures_in(answer), *alone)))
        assert max(high for _, high in gap.getextrema()) <= 1  # a batch sums in another order


def test_health_and_models(model: Model) -> None:
    async def talk(http: httpx.AsyncClient) -> list[dict[str, Any]]:
        return [(await http.get(path)).json() for path in ("/health", "/v1/models")]

    health, models = asked(model, talk)
    assert (health["status"], health["requests"]) == ("ok", 0)
    assert [one["id"] for one in models["data"]] == ["tiny"]


def test_the_front_page_says_what_this_is_and_asks_for_nothing(model: Model) -> None:
    async def conversation() -> httpx.Response:
        async with client(Server(model, "<tiny> & own", LIMITS, ["gpt-image-1"])) as http:
            return await http.get("/")

    page = asyncio.run(conversation())
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>&lt;tiny&gt; &amp; own</h1>" in page.text
    assert "curl http://here/v1/images/generations" in page.text
    assert all(word in page.text for word in ("gpt-image-1", "4 steps", "64x64", "16,384 pixels", "/v1/images/edits"))
    assert not re.search(r"\b(src|href|url|import|action)\b", page.text)


def test_limits_that_refuse_the_students_own_size_are_told_at_the_start(model: Model) -> None:
    with pytest.raises(EnvironmentRefused, match=r"64x64 = 4,096 pixels; raise it"):
        Server(model, "tiny", Limits(max_pixels=4_095))
    Server(model, "tiny", Limits(max_pixels=4_096))


def test_a_prompt_that_the_model_does_not_read_whole_is_refused_and_no_failure() -> None:
    """The pocket's tokenizer spells what it does not know, a byte a token."""
    pocket = replace(open_model("pocket"), own_steps=4)

    async def talk(http: httpx.AsyncClient) -> tuple[list[httpx.Response], dict[str, Any]]:
        bodies = [{"prompt": "\U0001f600" * 2400, "seed": seed} for seed in range(3)]
        answers = [await http.post(GENERATIONS, json=body) for body in bodies]
        return answers, (await http.get("/health")).json()

    answers, health = asked(pocket, talk)
    for answer in answers:
        refused(answer, 400, "and qwen-image-2.1 reads 8,191; shorten it")
        assert answer.json()["error"]["param"] == "prompt"
    assert health["status"] == "ok"


BAD_JSON: list[tuple[str, dict[str, Any], int, str]] = [
    ("no prompt", {}, 400, "prompt"),
    ("empty prompt", {"prompt": " "}, 400, "prompt"),
    ("a prompt that is no text", {"prompt": ["a"]}, 400, "prompt"),
    ("a long prompt", {"prompt": "a" * 20_000}, 400, "characters"),
    ("a negative seed", {"prompt": "a", "seed": -1}, 400, "seed"),
    ("a huge seed", {"prompt": "a", "seed": 2**64}, 400, "seed"),
    ("a fractional seed", {"prompt": "a", "seed": 1.5}, 400, "seed"),
    ("10,000 steps", {"prompt": "a", "steps": 10_000}, 400, "4 steps"),
    ("too many pictures", {"prompt": "a", "n": 100}, 400, "n is"),
    ("100 megapixels", {"prompt": "a", "size": "10000x10000"}, 400, "pixels"),
    ("a size off the grid", {"prompt": "a", "size": "65x64"}, 400, "multiples"),
    ("a size of nothing", {"prompt": "a", "size": "0x64"}, 400, "size"),
    ("a size in words", {"prompt": "a", "size": "large"}, 400, "WIDTHxHEIGHT"),
    ("an address wanted", {"prompt": "a", "response_format": "url"}, 400, "b64_json"),
    ("a path as picture", {"prompt": "a", "image": "/etc/passwd"}, 400, "/v1/images/edits"),
    ("another model", {"prompt": "a", "model": "dall-e-3"}, 404, "tiny"),
    ("a field of no API", {"prompt": "a", "output_path": "/tmp/x"}, 400, "output_path"),
]


@pytest.mark.parametrize(
    ("body", "status", "words"), [case[1:] for case in BAD_JSON], ids=[case[0] for case in BAD_JSON]
)
def test_bad_generations(model: Model, body: dict[str, Any], status: int, words: str) -> None:
    refused(asked(model, lambda http: http.post(GENERATIONS, json=body)), status, words)


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def form(**data: Any) -> Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]:
    files = data.pop("files", None)
    return lambda http: http.post(EDITS, data={"prompt": "a", **data}, files=files)


def raw(path: str, content: bytes, kind: str) -> Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]:
    return lambda http: http.post(path, content=content, headers={"content-type": kind})


TORN = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc'
BAD_BODIES = {
    "a bomb": (form(files={"image": ("x.png", bomb(60_000, 60_000))}), 413, "pixels"),
    "100 megapixels in 1 kB": (form(files={"image": ("x.png", bomb(10_000, 10_000))}), 413, "pixels"),
    "many pictures, together too large": (form(files=[("image", ("x.png", png((256, 200))))] * 2), 413, "pixels"),
    "a torn picture": (form(files={"image": ("x.png", png()[:-40])}), 400, "image"),
    "no picture at all": (form(files={"image": ("x.png", b"hello")}), 400, "image"),
    "a strip": (form(files={"image": ("x.png", png((256, 2)))}), 400, "16-fold"),
    "a path as picture": (form(image="/etc/passwd", files={"note": ("x", b"y")}), 400, "never opened"),
    "no picture": (form(files={"note": ("x", b"y")}), 400, "image is missing"),
    "a mask": (form(files={"image": ("x.png", png()), "mask": ("m.png", png())}), 400, "masks"),
    "a negative seed": (form(seed="-1", files={"image": ("x.png", png())}), 400, "seed"),
    "10,000 steps": (form(steps="10000", files={"image": ("x.png", png())}), 400, "4 steps"),
    "a long prompt": (form(prompt="a" * 2**20, files={"image": ("x.png", png())}), 413, "bytes"),
    "eleven pictures": (form(files=[("image", ("x.png", png((32, 32))))] * 11), 400, "at most 10"),
    "an upload too long": (form(files={"image": ("x.png", bytes(300_000))}), 413, "bytes"),
    "a form without its boundary": (raw(EDITS, TORN, "multipart/form-data"), 400, "boundary"),
    "a form cut short": (raw(EDITS, TORN, "multipart/form-data; boundary=x"), 400, ""),
    "a form that is none": (raw(EDITS, b"{}", "multipart/form-data; boundary=x"), 400, ""),
    "JSON for an edit": (raw(EDITS, b"{}", "application/json"), 415, "multipart/form-data"),
    "a prompt of 1 MB": (
        raw(GENERATIONS, json.dumps({"prompt": "a" * 2**20}).encode(), "application/json"),
        413,
        "bytes",
    ),
    "half of a letter": (raw(GENERATIONS, rb'{"prompt": "\ud800 boat"}', "application/json"), 400, "surrogate"),
    "no JSON": (raw(GENERATIONS, b"{prompt}", "application/json"), 400, "JSON"),
    "deep JSON": (raw(GENERATIONS, b"[" * 100_000, "application/json"), 400, "JSON"),
    "a list": (raw(GENERATIONS, b"[]", "application/json"), 400, "object"),
    "a form for a generation": (raw(GENERATIONS, b"prompt=a", "application/x-www-form-urlencoded"), 415, "json"),
    "another route": (lambda http: http.post("/v1/images/variations"), 404, "/v1/images/edits"),
    "another method": (lambda http: http.get(GENERATIONS), 405, "POST"),
}


@pytest.mark.parametrize(("talk", "status", "words"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_bodies(model: Model, talk: Any, status: int, words: str) -> None:
    """Refused, and the next request is answered as if nothing had been."""

    async def both(http: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response, dict[str, Any]]:
        bad = await talk(http)
        good = await http.post(GENERATIONS, json={"prompt": "a boat", "seed": 1})
        return bad, good, (await http.get("/health")).json()

    bad, good, health = asked(model, both)
    refused(bad, status, words)
    assert len(pictures_in(good)) == 1
    assert health["requests"] == 0


def test_a_full_queue_answers_when_to_come_back(model: Model) -> None:
    async def talk(http: httpx.AsyncClient) -> list[httpx.Response]:
        body = {"prompt": "a boat", "seed": 1}
        return await asyncio.gather(*(http.post(GENERATIONS, json=body) for _ in range(7)))

    answers = asked(model, talk)
    counts = [answer.status_code for answer in answers]
    assert (counts.count(200), counts.count(429)) == (4, 3)
    assert all(int(a.headers["Retry-After"]) > 0 for a in answers if a.status_code == 429)


def test_a_failure_costs_only_who_it_belongs_to(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in which one picture cannot be drawn: the others are, and the server goes on."""
    answer_batch = Worker._answer

    def failing(self: Worker, batch: Any) -> None:
        if any(picture.seed == 13 for picture in batch):
            raise RuntimeError("out of memory")
        answer_batch(self, batch)

    monkeypatch.setattr(Worker, "_answer", failing)

    async def talk(http: httpx.AsyncClient) -> list[httpx.Response]:
        bodies = [{"prompt": "a boat", "seed": seed} for seed in (12, 13, 14)]
        return await asyncio.gather(*(http.post(GENERATIONS, json=body) for body in bodies))

    assert [answer.status_code for answer in asked(model, talk)] == [200, 500, 200]


def test_a_server_that_can_make_no_more_pictures_is_unhealthy(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken CUDA context does not heal: who balances must send elsewhere. A picture that is drawn is health."""
    broken, answer_batch = [True], Worker._answer

    def failing(self: Worker, batch: Any) -> None:
        if broken[0]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        answer_batch(self, batch)

    monkeypatch.setattr(Worker, "_answer", failing)

    async def talk(http: httpx.AsyncClient) -> list[int]:
        statuses = []
        for seed in range(4):
            broken[0] = seed < 3
            statuses.append((await http.post(GENERATIONS, json={"prompt": "a boat", "seed": seed})).status_code)
            statuses.append((await http.get("/health")).status_code)
        return statuses

    assert asked(model, talk) == [500, 200, 500, 200, 500, 503, 200, 200]


@pytest.mark.parametrize("broken", ["transformer", "vae"])
def test_weights_that_are_no_numbers_are_no_black_picture(broken: str) -> None:
    """A black picture with status 200 is the worst answer. Nothing in the request is at fault, so it is a 500."""
    model = Model(QwenImage21.tiny(), 4, NO_GUIDANCE, (64, 64))
    weight = list(getattr(model.backbone.pipeline, broken).parameters())[-1]

    async def talk(http: httpx.AsyncClient) -> list[httpx.Response]:
        kept = weight.detach().clone()
        weight.fill_(float("nan"))
        answers = [await http.post(GENERATIONS, json={"prompt": "a boat"}), await http.get("/health")]
        weight.copy_(kept)
        return [*answers, await http.post(GENERATIONS, json={"prompt": "a boat"}), await http.get("/health")]

    failed, ill, drawn, well = asked(model, talk)
    assert [answer.status_code for answer in (failed, ill, drawn, well)] == [500, 503, 200, 200]
    assert failed.json()["error"]["type"] == "server_error"
    assert "not finite" in failed.json()["error"]["message"]
    assert "not finite" in ill.json()["status"]


def test_what_failed_together_is_let_go_before_it_is_tried_apart(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the failed batch's memory would still be held when there was too little of it."""
    held: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def failing(self: Worker, batch: Any) -> None:
        large = torch.zeros(8)
        if len(batch) > 1:
            held.append(weakref.ref(large))
            raise RuntimeError("out of memory")
        alive.append(held[0]() is not None)
        for picture in batch:
            picture.answer.set_result(Image.new("RGB", (8, 8)))

    monkeypatch.setattr(Worker, "_answer", failing)
    worker = Worker(model, LIMITS)
    answers = worker.submit(ImageRequest("a boat", 3, 1, None))
    worker.start()
    worker.close()
    assert [answer.result().size for answer in answers] == [(8, 8)] * 3
    assert alive == [False] * 3


def test_who_leaves_the_queue_takes_the_uploads_along(model: Model) -> None:
    worker = Worker(model, LIMITS)  # which has not begun
    reference = Image.new("RGB", (64, 64))
    left = worker.submit(ImageRequest("a boat", 2, 1, None, (reference,)))
    stays = worker.submit(ImageRequest("a boat", 1, 1, None))
    for answer in left:
        answer.cancel()
    assert worker.waiting == 1
    worker.start()
    worker.close()
    assert stays[0].result().size == (64, 64)


def test_closing_serves_what_waits(model: Model) -> None:
    worker = Worker(model, LIMITS)
    answers = worker.submit(ImageRequest("a boat", 3, 1, None))
    answers[1].cancel()
    worker.start()
    worker.close()
    assert [answer.cancelled() or answer.result().size for answer in answers] == [(64, 64), True, (64, 64)]
    with pytest.raises(RequestRefused, match="shutting down"):
        worker.submit(ImageRequest("a boat", 1, 1, None))
