"""Whatever a server sends has a meaning: nothing it says can break the client."""

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewstep.endpoint.response import (
    CallOutcome,
    Completion,
    Rejected,
    Retry,
    Tokens,
    Unusable,
    parse_response,
)

KEYS = st.sampled_from(
    ["error", "code", "message", "choices", "model", "usage", "finish_reason", "content", "refusal", "delta", "text"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 404, 408, 413, 422, 429, 500, 503, 599])


def response_to(choice: Any, **more: Any) -> CallOutcome:
    return parse_response(200, {"content-type": "application/json"}, json.dumps({"choices": [choice], **more}).encode())


@given(STATUSES, ANYTHING, st.sampled_from(["application/json", "text/event-stream", "text/html", ""]))
def test_any_json_means_something(status: int, value: Any, kind: str) -> None:
    for body in (json.dumps(value), f"data: {json.dumps(value)}\n\n", json.dumps({"choices": [value], "usage": value})):
        outcome = parse_response(status, {"content-type": kind}, body.encode())
        assert isinstance(outcome, Completion | Retry | Unusable | Rejected)
        if isinstance(outcome, Completion):
            json.dumps([outcome.text, outcome.model, outcome.refusal], ensure_ascii=False).encode()


@given(STATUSES, st.binary(), st.text(max_size=20))
def test_any_bytes_mean_something(status: int, body: bytes, after: str) -> None:
    assert parse_response(status, {"retry-after": after}, body) is not None


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_thoughts_without_content_are_named(key: str) -> None:
    for content in (None, "", " \n", []):
        outcome = response_to({"message": {"content": content, key: "hm"}, "finish_reason": "stop"})
        assert isinstance(outcome, Completion)
        assert (outcome.text.strip(), outcome.thoughts) == ("", key)
    spoken = response_to({"message": {"content": "yes", key: "hm"}, "finish_reason": "stop"})
    assert spoken == Completion("yes", finish="stop")
    events = [{"choices": [{"delta": {key: "h"}}]}, {"choices": [{"delta": {key: "m"}, "finish_reason": "stop"}]}]
    for more, text in (([], ""), ([{"choices": [{"delta": {"content": "yes"}}]}], "yes")):
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in [*events, *more]).encode()
        streamed = parse_response(200, {"content-type": "text/event-stream"}, body)
        assert isinstance(streamed, Completion)
        assert (streamed.text, streamed.thoughts) == (text, None if text else key)


def test_a_body_that_is_nested_without_end_is_one_lost_answer() -> None:
    deep = b"[" * 3_000 + b"]" * 3_000
    assert isinstance(parse_response(200, {}, b'{"choices": ' + deep + b"}"), Unusable)
    assert isinstance(parse_response(500, {}, deep), Retry)
    stream = b"data: " + deep + b'\n\ndata: {"choices": [{"delta": {"content": "yes"}}]}\n\ndata: [DONE]\n\n'
    assert parse_response(200, {"content-type": "text/event-stream"}, stream) == Completion("yes")


def test_parts_of_content_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    outcome = response_to({"message": {"content": parts}, "finish_reason": "stop"}, usage={"prompt_tokens": 3})
    assert outcome == Completion("ab", finish="stop")


def test_tokens_are_whole_or_unknown() -> None:
    message = {"message": {"content": "x"}}
    counted = response_to(message, usage={"prompt_tokens": 3, "completion_tokens": 4})
    assert isinstance(counted, Completion)
    assert counted.tokens == Tokens(3, 4)
    for usage in (
        {"prompt_tokens": "3", "completion_tokens": 4},
        {"prompt_tokens": True, "completion_tokens": 4},
        [],
        {"prompt_tokens": int("9" * 390), "completion_tokens": 4},
    ):
        unknown = response_to(message, usage=usage)
        assert isinstance(unknown, Completion)
        assert unknown.tokens is None


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "PROHIBITED_CONTENT", "refusal"])
def test_reasons_that_refuse(reason: str) -> None:
    outcome = response_to({"message": {"content": ""}, "finish_reason": reason})
    assert isinstance(outcome, Completion)
    assert outcome.refusal


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("", None), ("nan", None), ("inf", None)],
)
def test_retry_after_in_seconds(written: str, seconds: float | None) -> None:
    outcome = parse_response(429, {"retry-after": written}, b"")
    assert isinstance(outcome, Retry)
    assert (outcome.after, outcome.throttled) == (seconds, True)


def test_retry_after_as_a_date() -> None:
    outcome = parse_response(503, {"retry-after": formatdate(time.time() + 90, usegmt=True)}, b"")
    assert isinstance(outcome, Retry)
    assert outcome.after == pytest.approx(90, abs=5)


def test_a_stream_without_a_reason_but_with_its_end_is_whole() -> None:
    body = b'data: {"model": "m", "choices": [{"delta": {"content": "yes"}}]}\n\ndata: [DONE]\n\n'
    assert parse_response(200, {"content-type": "text/event-stream"}, body) == Completion("yes", model="m")
    assert isinstance(
        parse_response(200, {"content-type": "text/event-stream"}, body.partition(b"data: [DONE]")[0]), Retry
    )
