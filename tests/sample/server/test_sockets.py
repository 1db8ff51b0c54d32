"""Refusals over real sockets: who sends more than is read must still hear why, and not "connection reset"."""

import json
from collections.abc import Iterator

import httpx
import pytest

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.sample.pictures import Model
from fewstep.sample.server.app import Server
from fewstep.sample.server.limits import Limits
from tests.sample.server.listening import listening_at

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


@pytest.fixture(scope="module")
def server(backbone: QwenImage21) -> Server:
    return Server(Model(backbone, 4, NO_GUIDANCE, (64, 64)), "tiny", Limits(queue=2))


@pytest.fixture(scope="module")
def address(server: Server) -> Iterator[str]:
    with listening_at(server) as found:
        yield found


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def slowly(data: bytes) -> Iterator[bytes]:
    """In chunks, as a client sends that streams; without a length."""
    for start in range(0, len(data), 2**16):
        yield data[start : start + 2**16]


def test_who_sends_too_much_hears_why(address: str) -> None:
    """A prompt of 1 MB, an upload of 40 MB, both again without a declared length, and a body of another type."""
    prompt, upload = json.dumps({"prompt": "a" * 2**20}).encode(), bytes(40_000_000)
    kind, form = {"content-type": "application/json"}, {"content-type": "multipart/form-data; boundary=x"}
    with httpx.Client(base_url=address, timeout=30) as http:
        for _ in range(3):  # whether the answer outran the reset was chance
            refused(http.post(GENERATIONS, content=prompt, headers=kind), 413, "bytes")
            refused(http.post(GENERATIONS, content=slowly(prompt), headers=kind), 413, "bytes")
            refused(http.post(GENERATIONS, content=upload, headers=form), 415, "application/json")
        refused(http.post(EDITS, content=upload, headers=form), 413, "bytes")
        refused(http.post(EDITS, content=slowly(upload), headers=form), 413, "bytes")
        assert http.get("/health").json()["requests"] == 0


def test_a_full_queue_answers_who_uploads(address: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_taken", 2)
    with httpx.Client(base_url=address, timeout=30) as http:
        answer = http.post(EDITS, data={"prompt": "a"}, files={"image": ("x.png", bytes(8_000_000))})
    refused(answer, 429, "try again")
    assert int(answer.headers["retry-after"]) > 0
