"""Sets written by an endpoint: real HTTP on loopback, every oddity, kills, and what a resumed set asks again."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fewstep.data.prompts import prompt_requests
from fewstep.data.prompts.prompt_requests import T2IRequests, prompts_in
from fewstep.data.prompts.prompt_writer import write_prompts
from fewstep.data.sources import entries
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import (
    BudgetSpent,
    CaseError,
    EndpointError,
)
from tests.cli.command_line import fewstep
from tests.data.prompts.test_grammar_edits import BAKER, picture
from tests.endpoint.fault_server import Call, FaultServer, Script, Sent, fails, page, says
from tests.processes import wait_until

MODEL = "writer-1"


def ideas(call: Call) -> list[str]:
    return re.findall(r"^\d+\. \(\d+ words\) (.*)$", call.texts(), re.MULTILINE)


def answer_ideas(call: Call) -> Sent:
    """A model that writes one prompt for each idea."""
    sign = ' that reads "HELLO"' if "carry writing" in call.texts() else ""
    prompts = [f"{idea} seen by writer {n} of request{sign}" for n, idea in enumerate(ideas(call))]
    return says(json.dumps({"prompts": prompts}), pause=0.03)(call)


def endpoint(server: FaultServer, **more: object) -> Endpoint:
    return Endpoint.model_validate(
        {"base_url": server.url, "model": MODEL, "backoff_s": 0.01, "deadline_s": 120, "concurrency": 3, **more}
    )


def endpoint_file(server: FaultServer, folder: Path, more: str = "") -> Path:
    path = folder / "endpoint.toml"
    path.write_text(f'base_url = "{server.url}"\nmodel = "{MODEL}"\nconcurrency = 2\nbackoff_s = 0.01\n{more}')
    return path


def asked(server: FaultServer) -> Counter[str]:
    return Counter(call.texts() for call in server.calls)


def test_a_set_is_written_in_batches_and_a_second_time_from_the_record_alone(tmp_path: Path) -> None:
    with FaultServer(answer_ideas) as server:
        ask = T2IRequests("landscape", 0, 5)
        cases = write_prompts([ask], 42, endpoint(server), tmp_path / "r.jsonl")
        assert len(cases) == len({case.prompt for case in cases}) == 42
        assert len(server.calls) == 9, "five prompts a request"
        assert 1 < server.most_at_once <= 3
        assert max(asked(server).values()) == 1
        assert write_prompts([ask], 42, endpoint(server), tmp_path / "r.jsonl") == cases
        assert len(server.calls) == 9
        more = write_prompts([ask], 50, endpoint(server), tmp_path / "r.jsonl")
        assert more[:42] == cases
        assert len(server.calls) == 10


def test_ideas_differ_from_request_to_request_and_follow_from_the_number() -> None:
    ask = T2IRequests("portrait", 3, 8)
    assert ask.messages(4) == T2IRequests("portrait", 3, 8).messages(4)
    messages = [str(ask.messages(number)) for number in range(40)]
    assert len(set(messages)) == 40
    assert str(T2IRequests("portrait", 4, 8).messages(4)) not in messages


def test_repeats_near_repeats_and_unusable_prompts_are_dropped(tmp_path: Path) -> None:
    long = "a wooden boat on a still lake under a pale sky at dawn with reeds and a heron"

    def dull(call: Call) -> Sent:
        own = f"{ideas(call)[0]} and nothing else, number {call.number}"
        prompts = [long, long.upper(), long.replace("heron", "swan"), "tiny", 'a hill with a sign "STOP" on it', own]
        return says(json.dumps({"prompts": prompts}))(call)

    tallies = []
    with FaultServer(dull) as server:
        cases = write_prompts(
            [T2IRequests("landscape", 0, 6)], 7, endpoint(server), tmp_path / "r.jsonl", on_progress=tallies.append
        )
        assert len(cases) == 7
        assert sum(case.prompt == long for case in cases) == 1
        assert not [case for case in cases if '"' in case.prompt], "landscapes hold no writing"
        assert tallies[-1].spoilt == 2 * tallies[-1].requests
        assert tallies[-1].dropped >= 3 * 6 - 1


def test_a_model_that_only_repeats_itself_is_stopped(tmp_path: Path) -> None:
    answer = says(json.dumps({"prompts": ["the same old hill under the same old sky"]}))
    with FaultServer(answer) as server:
        with pytest.raises(EndpointError, match="Raise temperature"):
            write_prompts([T2IRequests("landscape", 0, 5)], 100, endpoint(server), tmp_path / "r.jsonl")
        assert len(server.calls) < 60


@pytest.mark.parametrize(
    "answer",
    [
        '{"prompts": ["a hill under rain"]}',
        '["a hill under rain"]',
        '```json\n{"prompts": ["a hill\\n under  rain"]}\n```',
        '<think>They want {"prompts": []}?</think>\n{"prompts": ["a hill under rain"]}',
        'reasoning without an opening tag</think>{"prompts": ["a hill under rain"]}',
    ],
)
def test_answers_that_are_read(answer: str) -> None:
    assert prompts_in(answer) == ["a hill under rain"]


@pytest.mark.parametrize(
    "answer", ["", "Sure! 1. a hill", '{"prompts": "a hill"}', '{"prompts": [1]}', '{"prompts": ["a']
)
def test_answers_that_ramble_are_invalid(answer: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        prompts_in(answer)


def test_odd_answers_are_rows_and_cost_one_call_each(tmp_path: Path) -> None:
    odd: list[Script] = [
        says("I would rather not."),
        says("", refusal="no"),
        says('{"prompts": ["half', finish="length"),
        fails(503),
        answer_ideas,
    ]
    with FaultServer(odd) as server:
        cases = write_prompts([T2IRequests("portrait", 0, 4)], 8, endpoint(server, concurrency=1), tmp_path / "r.jsonl")
        assert len(cases) == 8
        rows = list(durable.read_jsonl(tmp_path / "r.jsonl"))[1:]
        assert [row["status"] for row in rows] == ["invalid", "refused", "truncated", "ok", "ok"]
        assert "I would rather not" in rows[0]["why"]
        assert len(server.calls) == 6, "only the 503 was tried again"


@pytest.mark.parametrize(
    ("script", "more", "words"),
    [
        (fails(401, "bad key"), "", "bad key"),
        (page(), "", "HTML"),
        (fails(404, "no such model"), "", "no such model"),
        (says("{}", model="another-model"), "", "answers_as"),
        (answer_ideas, 'key_env = "FEWSTEP_NO_SUCH_KEY"\n', "FEWSTEP_NO_SUCH_KEY"),
        (answer_ideas, "colour = 3\n", "colour"),
    ],
)
def test_what_no_further_call_would_mend_ends_with_one_line(
    script: Script, more: str, words: str, tmp_path: Path
) -> None:
    with FaultServer(script) as server:
        path = endpoint_file(server, tmp_path, more)
        result = fewstep(
            "prompts", "build", "-c", "text", "--count", 30, "--endpoint", path, "--to", tmp_path / "t.jsonl"
        )
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())
        assert len(server.calls) <= 2
        assert not (tmp_path / "t.jsonl").exists()


def test_the_budget_stops_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    price = {"price": {"input": 0, "output": 1000}, "parameters": {"max_tokens": 100}}  # 0.1 for each answer
    with FaultServer(answer_ideas) as server:
        ask = [T2IRequests("landscape", 0, 5)]
        with pytest.raises(BudgetSpent, match="Raise budget"):
            write_prompts(ask, 50, endpoint(server, budget=0.45, **price), tmp_path / "r.jsonl")
        assert len(server.calls) == 4
        tallies = []
        cases = write_prompts(
            ask, 50, endpoint(server, budget=2, **price), tmp_path / "r.jsonl", on_progress=tallies.append
        )
        assert len(cases) == 50
        assert len(server.calls) == 10
        assert tallies[-1].cost == pytest.approx(1.0)


def test_the_record_of_another_set_is_refused(tmp_path: Path) -> None:
    with FaultServer(answer_ideas) as server:
        write_prompts([T2IRequests("landscape", 0, 5)], 5, endpoint(server), tmp_path / "r.jsonl")
        for ask in (T2IRequests("portrait", 0, 5), T2IRequests("landscape", 1, 5), T2IRequests("landscape", 0, 6)):
            with pytest.raises(CaseError, match="choose another --to"):
                write_prompts([ask], 5, endpoint(server), tmp_path / "r.jsonl")
        assert len(server.calls) == 1


def test_killed_and_started_again_nothing_that_was_answered_is_asked_twice(tmp_path: Path) -> None:
    """kill -9 at several moments; the set is the one of an unbroken run."""

    with FaultServer(answer_ideas) as server:
        to = tmp_path / "set.jsonl"
        words = ["prompts", "build", "-c", "portrait", "-c", "text", "--count", "40", "--each", "4", "--to", str(to)]
        words += ["--endpoint", str(endpoint_file(server, tmp_path))]
        record = tmp_path / "set.answers.jsonl"
        for answered in (3, 9, 14):
            child = subprocess.Popen([sys.executable, "-m", "fewstep", *words], stdout=subprocess.DEVNULL, env=ENV)
            wait_until(lambda least=answered: record.exists() and len(list(durable.read_jsonl(record))) > least)
            answered_keys = {(row["category"], row["request"]) for row in list(durable.read_jsonl(record))[1:]}
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert len(answered_keys) >= answered
        with record.open("ab") as file:
            file.write(b'{"category": "text", "requ')
        before = {json.dumps(row) for row in durable.read_jsonl(record)}
        result = fewstep(*words)
        assert result.exit_code == 0, result.output
        rows = list(durable.read_jsonl(record))[1:]
        keys = Counter((row["category"], row["request"]) for row in rows)
        assert max(keys.values()) == 1
        assert before <= {json.dumps(row) for row in durable.read_jsonl(record)}
        lost = len(server.calls) - len(rows)
        assert 0 <= lost <= 3 * 2, "at each kill, at most what was in flight"
        cases = list(entries(to))
        assert len(cases) == 80

    with FaultServer(answer_ideas) as server:
        whole = tmp_path / "whole.jsonl"
        words[words.index(str(to))] = str(whole)
        endpoint_file(server, tmp_path)
        assert fewstep(*words).exit_code == 0
    assert whole.read_text() == to.read_text()


ENV = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


def test_instructions_from_a_model_that_sees_the_picture(tmp_path: Path) -> None:
    for n in range(2):
        picture(tmp_path / "in" / f"{n}.png", n)
    (tmp_path / "in" / "0.txt").write_text(BAKER)

    def looking(call: Call) -> Sent:
        assert len(call.pictures()) == 1
        return says(json.dumps({"prompts": [f"Change detail {n} of call {call.number}." for n in range(3)]}))(call)

    with FaultServer(looking) as server:
        to = tmp_path / "e.jsonl"
        words = [
            "--task",
            "edit",
            "-c",
            "style",
            "-c",
            "perceptual",
            "--from",
            tmp_path / "in",
            "--each",
            3,
            "--count",
            12,
        ]
        result = fewstep("prompts", "build", *words, "--to", to, "--endpoint", endpoint_file(server, tmp_path))
        assert result.exit_code == 0, result.output
        cases = list(entries(to, thorough=True))
        assert len(cases) == 24
        texts = [call.texts() for call in server.calls]
        assert sum(BAKER in text for text in texts) == 4, "what is known of a picture is sent"
        assert sum("Style: the look" in text for text in texts) == 4
        style = {
            call.pictures()[0] for call, text in zip(server.calls, texts, strict=True) if "Style: the look" in text
        }
        mended = {call.pictures()[0] for call, text in zip(server.calls, texts, strict=True) if "Perceptual: a" in text}
        assert len(style) == 2
        assert len(mended) == 4, "every perceptual request shows a degraded copy of its own"
        assert len({case.references for case in cases if case.category == "perceptual"}) == 4


def test_questions_are_there_for_every_category() -> None:
    assert set(prompt_requests.edit_categories()) == {"scene", "perceptual", "object", "text", "identity", "style"}
