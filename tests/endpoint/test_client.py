"""The client against a scripted server: each oddity, with the exact number of requests it costs."""

import asyncio
import time
from typing import Any

import pytest

from fewstep.endpoint.bounded_map import bounded_map
from fewstep.endpoint.client import Client
from fewstep.endpoint.declaration import Endpoint
from fewstep.endpoint.messages import text_message
from fewstep.endpoint.reply import Reply
from fewstep.runtime.errors import BudgetSpent, EndpointError
from tests.endpoint.fault_server import (
    FaultServer,
    Script,
    breaks,
    drips,
    fails,
    hangs,
    page,
    raw,
    says,
    streams,
)

SCHEMA = {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]}


def endpoint(server: FaultServer, **keys: Any) -> Endpoint:
    quick = {"timeout_s": 20, "deadline_s": 30, "backoff_s": 0.01, "concurrency": 1}
    return Endpoint.model_validate({"base_url": server.url, "model": "seer", "name": "seer", **quick, **keys})


def asked(scripts: list[Script] | Script, times: int = 1, **keys: Any) -> tuple[list[Reply], FaultServer]:
    """The replies to `times` questions, and the server that they were put to."""
    with FaultServer(scripts) as server:
        return asyncio.run(_replies(endpoint(server, **keys), times)), server


async def _replies(declared: Endpoint, times: int) -> list[Reply]:
    replies: list[Reply] = []

    async def one(number: int) -> None:
        replies.append(await client.ask([text_message("user", f"question {number}")], SCHEMA))

    async with Client(declared) as client:
        await bounded_map(range(times), one, declared.concurrency)
    return replies


def refused(scripts: list[Script] | Script, calls: int, times: int = 5, **keys: Any) -> str:
    """The words of the error that ended it after exactly so many requests."""
    with FaultServer(scripts) as server:
        with pytest.raises(EndpointError) as error:
            asyncio.run(_replies(endpoint(server, **keys), times))
        assert len(server.calls) == calls
        return str(error.value)


def test_a_plain_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEER_KEY", "s3cret")
    parameters = {"temperature": 0.3, "reasoning_effort": "low"}
    price = {"input": 2.0, "output": 10.0}
    [reply], server = asked([says("yes", "seer-2026-01-05")], parameters=parameters, key_env="SEER_KEY", price=price)
    assert (reply.status, reply.text, reply.model, reply.finish) == ("ok", "yes", "seer-2026-01-05", "stop")
    assert reply.cost == pytest.approx(1000 * 2e-6 + 100 * 10e-6)
    assert (reply.tries, reply.response_format) == (1, "json_schema")
    [call] = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer s3cret"
    assert set(call.body) == {"model", "messages", "response_format", "temperature", "reasoning_effort"}
    assert call.body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_nothing_is_sent_that_was_not_declared() -> None:
    _, server = asked([says("yes")], structured="none")
    assert set(server.calls[0].body) == {"model", "messages"}
    assert "authorization" not in server.calls[0].headers


@pytest.mark.parametrize(
    "fault",
    [fails(500), fails(502), fails(503), fails(408), page(502), breaks(), streams("a b", finish=None)],
    ids=["500", "502", "503", "408", "502 as a page", "broken connection", "broken stream"],
)
def test_passing_faults_are_tried_again(fault: Script) -> None:
    [reply], server = asked([fault, fault, says("yes")])
    assert (reply.status, reply.text, reply.tries) == ("ok", "yes", 3)
    assert len(server.calls) == 3


@pytest.mark.parametrize("fault", [hangs(5), drips(0.05)], ids=["hangs", "drips"])
def test_a_server_that_does_not_end_is_tried_again(fault: Script) -> None:
    [reply], server = asked([fault, says("yes")], timeout_s=1)
    assert (reply.status, len(server.calls)) == ("ok", 2)


def test_nobody_there_is_a_failed_call_at_the_deadline() -> None:
    with FaultServer([says("yes")]) as server:
        declared = endpoint(server, timeout_s=0.2, deadline_s=0.3, backoff_s=0.05)
    began = time.monotonic()
    [reply] = asyncio.run(_replies(declared, 1))
    assert reply.status == "failed"
    assert "ConnectError" in (reply.why or "")
    assert time.monotonic() - began < 5


def test_the_deadline_ends_the_tries() -> None:
    [reply], server = asked(fails(503, "overloaded"), timeout_s=0.5, deadline_s=0.5, backoff_s=0.05)
    assert reply.status == "failed"
    assert "503: overloaded" in (reply.why or "")
    assert reply.tries == len(server.calls) >= 2


def test_calls_that_fail_in_a_row_stop_the_run() -> None:
    words = refused(raw(b'{"choices": []}'), calls=3, times=50, give_up_after=3)
    assert "3 calls in a row failed" in words


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_denial_stops_at_once_with_the_servers_words(status: int) -> None:
    words = refused(fails(status, "the seer is not in"), calls=1)
    assert f"answered {status}" in words
    assert "the seer is not in" in words


def test_a_wrong_key_is_named_by_its_variable_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEER_KEY", "s3cret")
    words = refused(fails(401, "Incorrect key: s3cret"), calls=1, key_env="SEER_KEY")
    assert "SEER_KEY" in words
    assert "s3cret" not in words


def test_no_credit_is_no_reason_to_wait() -> None:
    assert "credit" in refused(fails(429, "pay", code="insufficient_quota"), calls=1)


def test_a_page_instead_of_json_stops_at_once() -> None:
    words = refused(page(), calls=1)
    assert "HTML" in words
    assert "/v1" in words


def test_another_model_stops_at_once() -> None:
    words = refused(says("yes", "seer-mini"), calls=1)
    assert "seer-mini" in words
    assert "answers_as" in words
    [reply], _ = asked([says("yes", "seer-mini")], answers_as=["seer-mini"])
    assert reply.model == "seer-mini"


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("seer-2026-01-05", True),
        ("models/Seer", True),
        ("seer-0613", True),
        ("seer-001", True),
        ("seer-preview-05-06", True),
        ("seer@latest", True),
        ("seer-4b", False),
        ("seer-2-mini", False),
        ("seer.1", False),
        ("overseer", False),
        ("oracle", False),
    ],
)
def test_a_version_is_no_other_model(name: str, same: bool) -> None:
    if same:
        assert asked([says("yes", name)])[0][0].model == name
    else:
        assert name in refused(says("yes", name), calls=1)


def test_a_server_that_asks_for_more_patience_than_declared_ends_the_run() -> None:
    words = refused(fails(429, "quota", retry_after="3600"), calls=1)
    assert "3,600 s" in words
    assert "deadline_s" in words


def test_too_many_lowers_the_concurrency_and_answers_raise_it_again() -> None:
    with FaultServer([fails(429, retry_after="0.2"), says("yes")]) as server:

        async def run() -> tuple[int, int, list[Reply]]:
            async with Client(endpoint(server, concurrency=4)) as client:
                replies = [await client.ask([text_message("user", "first")])]
                low = client.rate_limiter.limit
                replies += [await client.ask([text_message("user", str(n))]) for n in range(8)]
                return low, client.rate_limiter.limit, replies

        low, high, replies = asyncio.run(run())
    assert [reply.tries for reply in replies] == [2] + [1] * 8
    assert (low, high) == (2, 4)
    assert server.calls[1].at - server.calls[0].at >= 0.2


def test_a_burst_of_429_is_one_cut_and_no_question_is_lost() -> None:
    replies, server = asked([fails(429, retry_after="0.1")] * 6 + [says("yes")], times=20, concurrency=6)
    assert [reply.status for reply in replies] == ["ok"] * 20
    assert len(server.calls) == 26
    assert server.most_at_once <= 6


def test_requests_per_minute_are_spaced() -> None:
    _, server = asked(says("yes"), times=4, concurrency=4, requests_per_minute=300)
    assert server.calls[-1].at - server.calls[0].at > 0.4, "three gaps of 0.2 s, less what a busy machine adds"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (says(None, refusal="I will not"), "refused"),
        (says("", finish="content_filter"), "refused"),
        (fails(400, "filtered", code="content_policy_violation"), "refused"),
        (says('{"sco', finish="length"), "truncated"),
        (raw(b'{"choices": []}'), "failed"),
        (raw(b'{"object": "list"}'), "failed"),
    ],
    ids=["refusal", "filter", "filter as 400", "length", "no choices", "something else"],
)
def test_what_is_no_answer_has_a_status_and_one_request(script: Script, status: str) -> None:
    [reply], server = asked([script])
    assert (reply.status, len(server.calls)) == (status, 1)
    assert reply.why


def test_an_error_with_200_counts_as_the_error_it_is() -> None:
    error = raw(b'{"error": {"message": "upstream", "code": 503}}')
    [reply], server = asked([error, says("yes")])
    assert (reply.status, len(server.calls)) == ("ok", 2)


def test_a_streamed_answer_is_one_answer() -> None:
    [reply], _ = asked([streams('{"score": 3.5, "reasoning": "so so"}')], parameters={"stream": True})
    assert reply.text == '{"score": 3.5, "reasoning": "so so"}'
    assert reply.tokens is not None
    assert reply.tokens.input == 7


def test_the_next_response_format_is_taken_where_the_server_does_not_know_one() -> None:
    unknown = fails(400, "response_format json_schema is not supported")
    replies, server = asked([unknown, says("{}")], times=2, structured=["json_schema", "json_object"])
    assert [reply.response_format for reply in replies] == ["json_object", "json_object"]
    assert len(server.calls) == 3
    assert "json_schema" in refused(unknown, calls=1, structured="json_schema")


def test_the_budget_is_never_passed() -> None:
    price = {"input": 1000.0}  # 1 a call: 1,000 tokens
    with FaultServer(says("yes")) as server:
        declared = endpoint(server, concurrency=4, price=price, budget=10.5)
        with pytest.raises(BudgetSpent, match="10"):
            asyncio.run(_replies(declared, 50))
    assert len(server.calls) == 10


def test_calls_that_began_on_an_estimate_hold_back_what_answers_turn_out_to_cost() -> None:
    price = {"input": 1000.0}  # 1 a call, estimated at 0.004
    with FaultServer([says("yes", pause=1.0)] * 3 + [says("yes")]) as server:
        declared = endpoint(server, concurrency=4, price=price, budget=10.5)
        with pytest.raises(BudgetSpent, match="10"):
            asyncio.run(_replies(declared, 50))
    assert len(server.calls) == 10


def test_the_budget_counts_what_earlier_runs_spent() -> None:
    with FaultServer(says("yes")) as server:

        async def run() -> None:
            async with Client(endpoint(server, price={"image": 1.0}, budget=3.0), spent=3.0) as client:
                await client.ask([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}])

        with pytest.raises(BudgetSpent):
            asyncio.run(run())
    assert not server.calls


def test_a_budget_needs_a_server_that_reports_tokens() -> None:
    assert "usage" in refused(says("yes", usage=None), calls=1, price={"input": 1.0}, budget=1.0)
    [reply], _ = asked([says("yes", usage=None)], price={"input": 1.0})
    assert reply.cost is None


def test_after_an_error_what_is_under_way_ends() -> None:
    with FaultServer([says("yes", pause=0.4), fails(401)]) as server:
        replies: list[Reply] = []

        async def run() -> None:
            async def one(number: int) -> None:
                await asyncio.sleep(0.1 * number)
                replies.append(await client.ask([text_message("user", str(number))]))

            async with Client(endpoint(server, concurrency=2)) as client:
                await bounded_map(range(9), one, 2)

        with pytest.raises(EndpointError):
            asyncio.run(run())
    assert [reply.status for reply in replies] == ["ok"]
    assert len(server.calls) == 2
