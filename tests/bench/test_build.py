"""Suites written by a model: a scripted server on loopback, exact numbers of calls, nothing lost and nothing twice."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.bench.build import SuitePlan, write_model_suite
from fewstep.bench.case_writer import WrittenCase, read_cases
from fewstep.bench.dedup import CaseDedup
from fewstep.bench.suites import read_suite
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime.errors import EndpointError, SuiteError
from tests.bench.small_suites import plain
from tests.cli.command_line import fewstep
from tests.endpoint.fault_server import Call, FaultServer, Sent, fails, says

WORDS = ("otter", "bridge", "lantern", "meadow", "piano", "harbour", "comet", "orchard", "violin", "glacier", "mirror")


def endpoint(server: FaultServer, **keys: Any) -> Endpoint:
    quick = {"timeout_s": 5, "deadline_s": 10, "backoff_s": 0.01, "concurrency": 2, "give_up_after": 3}
    return Endpoint.model_validate({"base_url": server.url, "model": "writer", "name": "writer", **quick, **keys})


def writer(repeat: bool = False) -> Callable[[Call], Sent]:
    """Eight new cases a call; with `repeat` always the same ones."""
    count, lock = 0, threading.Lock()

    def script(call: Call) -> Sent:
        nonlocal count
        with lock:
            first = 0 if repeat else count
            count += 8
        text = "pictures with words" in call.texts() or "words that the picture shows" in call.texts()
        cases = [
            {"prompt": f'{_prompt(n)} says "SIGN {n}"' if text else _prompt(n), "text": [f"SIGN {n}"] if text else []}
            for n in range(first, first + 8)
        ]
        return says(json.dumps({"cases": cases}))(call)

    return script


def _prompt(n: int) -> str:
    """Different words for every number."""
    digits = [WORDS[n // 11**place % 11] for place in range(4)]
    return f"{digits[0]} {n} near {digits[1]} {n + 1}, {digits[2]} {n + 2} and {digits[3]} {n + 3}"


def plan(count: int = 12, **keys: Any) -> SuitePlan:
    return SuitePlan(**({"name": "mine", "task": "t2i", "count": count} | keys))


def test_a_suite_of_many_answers(tmp_path: Path) -> None:
    with FaultServer(writer()) as server:
        write_model_suite(plan(), endpoint(server), tmp_path / "s")
        calls = len(server.calls)
    suite = read_suite(tmp_path / "s")
    assert suite.categories == {"landscape": 12, "portrait": 12, "text": 12}
    assert 6 <= calls <= 9
    texts = [question for question in suite.questions if question.case.category == "text"]
    assert all(question.expect["text"][0] in question.case.prompt for question in texts)
    assert server.calls[0].body["response_format"]["type"] == "json_schema"
    assert len({call.texts() for call in server.calls}) == calls  # each call has words of its own


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    answers = tmp_path / "s" / "answers.jsonl"
    with FaultServer([writer(), writer(), fails(401, "no such key")]) as server, pytest.raises(EndpointError):
        write_model_suite(plan(), endpoint(server, concurrency=1), tmp_path / "s")
    assert len(answers.read_text().splitlines()) == 2
    assert not (tmp_path / "s" / "suite.json").exists()
    with answers.open("a") as file:
        file.write('{"category": "text", "num')
    with FaultServer(writer()) as server:
        with pytest.raises(SuiteError, match="begun with other options"):
            write_model_suite(plan(13), endpoint(server), tmp_path / "s")
        assert not server.calls
        write_model_suite(plan(), endpoint(server), tmp_path / "s")
    records = [json.loads(line) for line in answers.read_text().splitlines() if line.endswith("}")]
    asked = [(answer["category"], answer["number"]) for answer in records]
    assert len(asked) == len(set(asked)) == 2 + len(server.calls)
    assert len(read_suite(tmp_path / "s").questions) == 36
    with FaultServer(writer()) as server, pytest.raises(SuiteError, match="frozen"):
        write_model_suite(plan(), endpoint(server), tmp_path / "s")


def test_a_writer_that_repeats_itself_is_not_asked_for_ever(tmp_path: Path) -> None:
    with (
        FaultServer(writer(repeat=True)) as server,
        pytest.raises(SuiteError, match=r"after 12 calls there are \d different \w+ cases of 12"),
    ):
        write_model_suite(plan(), endpoint(server), tmp_path / "s")
    assert len(server.calls) <= 3 * plan().most_calls


def test_a_server_that_was_down_has_answered_nothing(tmp_path: Path) -> None:
    """Calls without an answer are made again, however often the server was down; none of them is counted as a call."""
    down = {"timeout_s": 0.3, "deadline_s": 0.3, "concurrency": 8, "give_up_after": 1000}
    for _ in range(3):
        with FaultServer(fails(500, "down")) as server, pytest.raises(EndpointError, match="try again later"):
            write_model_suite(plan(), endpoint(server, **down), tmp_path / "s")
        assert server.calls
    assert (tmp_path / "s" / "answers.jsonl").read_text().count('"failed"') >= 9
    with FaultServer(writer()) as server:
        write_model_suite(plan(), endpoint(server), tmp_path / "s")
    assert len(read_suite(tmp_path / "s").questions) == 36


def test_refusals_and_rambling_are_counted_and_asked_again(tmp_path: Path) -> None:
    odd = [says(None, refusal="I cannot"), says("Sure! Here are some prompts"), says('{"cases": 5}')]
    with FaultServer([*odd, writer()]) as server:
        dropped = write_model_suite(plan(4), endpoint(server, concurrency=1), tmp_path / "s")
    assert dropped["answer: refused"] == 1
    assert dropped["answer: no JSON"] == 1
    assert len(read_suite(tmp_path / "s").questions) == 12


def test_what_training_has_read_is_left_out(tmp_path: Path) -> None:
    train = tmp_path / "train.txt"
    train.write_text(f"In other words: {_prompt(3)} at dusk\n")
    with FaultServer(writer()) as server:
        dropped = write_model_suite(plan(against=(train,)), endpoint(server, concurrency=1), tmp_path / "s")
    assert dropped["in training"] >= 1
    assert not [q for q in read_suite(tmp_path / "s").questions if _prompt(3) in q.case.prompt]


def test_edits_are_about_pictures(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for number in range(3):
        plain((80 * number, 60, 90)).save(tmp_path / "own" / f"{number}.png")
    with FaultServer(writer()) as server:
        write_model_suite(plan(3, task="edit", pictures=tmp_path / "own"), endpoint(server), tmp_path / "s")
        assert all(len(call.pictures()) == 1 for call in server.calls)
    suite = read_suite(tmp_path / "s")
    assert suite.categories == dict.fromkeys(("scene", "perceptual", "object", "text", "identity", "style"), 3)
    assert all((q.case.target is not None) == (q.case.category == "perceptual") for q in suite.questions)
    with FaultServer(writer()) as server, pytest.raises(SuiteError, match="--pictures"):
        write_model_suite(plan(3, task="edit"), endpoint(server), tmp_path / "t")


def test_the_dedup() -> None:
    dedup = CaseDedup(["a long training prompt about one very particular green house by the sea"])

    def refusal(prompt: str, category: str = "landscape", about: str = "", text: tuple[str, ...] = ()) -> str | None:
        return dedup.refusal(WrittenCase(prompt, text), category, about)

    assert refusal("A red house stands on a hill under a stormy sky at dusk") is None
    assert refusal("a RED house stands on a hill, under a stormy sky at dusk!") == "said before"
    assert refusal("A red house stands on a hill under a stormy sky at dawn") == "nearly said before"
    assert refusal("about one very particular green house by the sea") == "in training"
    assert refusal('a sign that says "GO"', "text", text=("STOP",)) == "words to show that the prompt does not quote"
    assert refusal('a sign that says "STOP"', "text", text=("STOP",)) is None
    assert refusal("remove the car", "object", about="one") is None
    assert refusal("remove the car", "object", about="two") is None
    assert refusal("remove the car", "object", about="one") == "said before"


@pytest.mark.parametrize(
    ("answer", "count", "why"),
    [
        ('{"cases": [{"prompt": "a", "text": []}, {"prompt": "", "text": []}, 5]}', 1, None),
        ('```json\n{"cases": []}\n```', 0, None),
        ("[]", 0, "no list under 'cases'"),
        ('{"cases": [{"prompt": "a", "text": "b"}]}', 0, "no usable case in it"),
    ],
)
def test_answers_are_read_strictly(answer: str, count: int, why: str | None) -> None:
    cases, problem = read_cases(answer)
    assert (len(cases), problem) == (count, why)


def test_the_command(tmp_path: Path) -> None:
    with FaultServer(writer()) as server:
        declared = tmp_path / "writer.toml"
        declared.write_text(f'base_url = "{server.url}"\nmodel = "writer"\n')
        words = ("bench", "build", "--count", "2", "--endpoint", declared, "--to", tmp_path / "mine")
        assert fewstep(*words, "--task", "song").exit_code == 2
        assert fewstep(*words, "--task", "t2i", "--pictures", tmp_path).exit_code == 2
        result = fewstep(*words, "--task", "t2i", "--licence", "CC0-1.0")
    assert result.exit_code == 0, result.output
    assert read_suite(tmp_path / "mine").license == "CC0-1.0"
