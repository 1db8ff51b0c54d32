"""Prompts that the teachers alone read: in case files, and what is said of them at the door."""

import json
from pathlib import Path

import pytest

from fewstep.data.cases import Case, case_of, record_of
from fewstep.data.teacher_prompts import lost_quotes, teacher_prompt_remarks
from fewstep.runtime.errors import CaseError, RecipeError

SHORT, LONG = 'a shop with a sign "OPEN"', 'A small shop at dusk, a wooden sign above its door reads "OPEN".'


def case(prompt: str = SHORT, teacher_prompt: str | None = None, name: str = "a") -> Case:
    return Case(name, "t2i", prompt, teacher_prompt=teacher_prompt, where=f"cases.jsonl:{name}")


def test_a_record_holds_both_prompts_and_reads_back() -> None:
    made = case_of({"prompt": SHORT, "teacher_prompt": f" {LONG} "}, Path("."), "f:1", "a")
    assert (made.prompt, made.taught_prompt, made.prompts) == (SHORT, LONG, (SHORT, LONG))
    again = case_of(json.loads(json.dumps(record_of(made, Path(".")))), Path("."), "f:1", "a")
    assert again == made


def test_without_one_the_teachers_read_the_students_prompt() -> None:
    made = case_of({"prompt": SHORT}, Path("."), "f:1", "a")
    assert made.teacher_prompt is None
    assert (made.taught_prompt, made.prompts) == (SHORT, (SHORT,))
    assert "teacher_prompt" not in record_of(made, Path("."))
    assert case_of({"prompt": SHORT, "teacher_prompt": ""}, Path("."), "f:1", "a").teacher_prompt is None


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"teacher_prompt": 3}, "teacher_prompt is 3; give it as text"),
        ({"teacher_prompt": "word " * 3000}, "teacher_prompt: the prompt has 3,000 words"),
        ({"teacher_promt": LONG}, "did you mean 'teacher_prompt'?"),
    ],
)
def test_bad_values_are_named(record: dict[str, object], said: str) -> None:
    with pytest.raises(CaseError, match=said.replace("?", r"\?")):
        case_of({"prompt": SHORT, **record}, Path("."), "f:1", "a")


def test_missing_rewritings_and_lost_texts_are_told() -> None:
    assert teacher_prompt_remarks([case(), case(name="b")], "student") == []
    assert teacher_prompt_remarks([case(teacher_prompt=LONG)], "teacher") == []
    missing, lost = teacher_prompt_remarks(
        [case(teacher_prompt=LONG), case(name="b"), case(teacher_prompt="A shop that is open.", name="c")], "student"
    )
    assert missing.startswith("1 of 3 cases have no teacher_prompt")
    assert missing.endswith("cases.jsonl:b")
    assert lost.endswith('cases.jsonl:c: "OPEN"')


def test_a_critic_that_reads_what_no_case_has_is_refused() -> None:
    with pytest.raises(RecipeError, match="no case has a teacher_prompt"):
        teacher_prompt_remarks([case()], "teacher")


def test_quotes_are_compared_letter_by_letter() -> None:
    assert lost_quotes(SHORT, LONG) == []
    assert lost_quotes(SHORT, LONG.replace("OPEN", "Open")) == ["OPEN"]
