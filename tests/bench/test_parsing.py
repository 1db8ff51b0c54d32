"""A reply is numbers, or a status that names why not: nothing is guessed."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.bench import protocol
from fewstep.bench.parsing import ParsedReply, parse_reply
from fewstep.endpoint.reply import Reply

T2I = protocol.load_protocol("t2i-v1", "t2i")
EDIT = protocol.load_protocol("edit-v1", "edit")
PAIR = protocol.load_protocol("pair-v1", "edit")
GOOD = '{"score": 4.25, "reasoning": "fine"}'


def read(text: str) -> ParsedReply:
    return parse_reply(Reply("ok", text), T2I, None)


def edit(**changes: Any) -> ParsedReply:
    subs = dict.fromkeys(EDIT.rubrics["text"].criteria, 3.0)
    content = {"overall_score": 2.75, "sub_scores": subs, "reasoning": "a", "failure_modes": ["misspelt"], **changes}
    return parse_reply(Reply("ok", json.dumps(content)), EDIT, "text")


@pytest.mark.parametrize("text", [GOOD, f" {GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```"])
def test_good_answers(text: str) -> None:
    assert read(text) == ParsedReply("ok", score=4.25, reasoning="fine")


@pytest.mark.parametrize("score", ["1", "5", "1.00", "5.0", "4.333"])
def test_the_scale_has_its_ends(score: str) -> None:
    assert read(f'{{"score": {score}, "reasoning": ""}}').score == float(score)


@pytest.mark.parametrize("score", ["0.99", "5.01", "0", "-3", "87", "1e999", "1" + "0" * 400])
def test_beyond_the_scale_is_no_number(score: str) -> None:
    reading = read(f'{{"score": {score}, "reasoning": ""}}')
    assert (reading.status, reading.score) == ("out_of_range", None)
    assert reading.why


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4.25",
        "The picture is good, I give it 4.25.",
        f"Sure! {GOOD}",
        f"{GOOD} Hope that helps.",
        f"Here it is:\n```json\n{GOOD}\n```",
        '{"score": 4.25, "reasoning": "fin',
        '{"score": "4.25", "reasoning": "a"}',
        '{"score": true, "reasoning": "a"}',
        '{"score": null, "reasoning": "a"}',
        '{"score": NaN, "reasoning": "a"}',
        '{"score": Infinity, "reasoning": "a"}',
        '{"score": 4, "score": 2, "reasoning": "a"}',
        '{"score": 4}',
        '{"score": 4, "reasoning": 3}',
        '{"score": 4, "reasoning": "a", "confidence": 1}',
        '{"Score": 4, "reasoning": "a"}',
        f"[{GOOD}]",
        "[" * 100_000,
        "<think>hm</think>" + GOOD,
    ],
)
def test_anything_else_is_invalid(text: str) -> None:
    reading = read(text)
    assert (reading.status, reading.score) == ("invalid", None)
    assert reading.why


@settings(max_examples=100)
@given(st.text())
def test_no_text_breaks_it_or_becomes_a_number(text: str) -> None:
    assert read(text).status == "invalid"


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_breaks_it(value: Any) -> None:
    for loaded, rubric in ((T2I, None), (EDIT, "scene"), (PAIR, None)):
        reading = parse_reply(Reply("ok", json.dumps(value)), loaded, rubric)
        assert reading.status != "ok"


@pytest.mark.parametrize("status", ["refused", "truncated", "failed"])
def test_what_was_no_answer_stays_none(status: Any) -> None:
    """A truncated answer may hold a score: it is none."""
    reading = parse_reply(Reply(status, GOOD, why="because"), T2I, None)
    assert reading == ParsedReply(status, "because")


def test_an_edit_has_its_criteria_and_failures() -> None:
    reading = edit()
    assert (reading.status, reading.score, reading.why) == ("ok", 2.75, None)
    assert list(reading.sub_scores) == list(EDIT.rubrics["text"].criteria)
    assert reading.failure_modes == ("misspelt",)


def test_a_score_over_the_cap_of_a_named_failure_is_kept_with_a_note() -> None:
    reading = edit(overall_score=4.5)
    assert (reading.status, reading.score) == ("ok", 4.5)
    assert "misspelt caps at 3" in (reading.why or "")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sub_scores": {}}, "invalid"),
        ({"sub_scores": [3]}, "invalid"),
        ({"sub_scores": dict.fromkeys(EDIT.rubrics["scene"].criteria, 3.0)}, "invalid"),
        ({"sub_scores": dict.fromkeys(EDIT.rubrics["text"].criteria, 7)}, "out_of_range"),
        ({"failure_modes": "none"}, "invalid"),
        ({"failure_modes": [1]}, "invalid"),
    ],
)
def test_edits_that_are_not_as_asked(changes: dict[str, Any], status: str) -> None:
    reading = edit(**changes)
    assert (reading.status, reading.score, dict(reading.sub_scores)) == (status, None, {})


def test_a_pair_has_a_winner_or_nothing() -> None:
    for winner in ("A", "B", "tie"):
        assert parse_reply(Reply("ok", json.dumps({"winner": winner, "reasoning": ""})), PAIR, None).winner == winner
    for winner in ("C", "a", None, ["A"], {}):
        text = json.dumps({"winner": winner, "reasoning": ""})
        assert parse_reply(Reply("ok", text), PAIR, None).status == "invalid"
