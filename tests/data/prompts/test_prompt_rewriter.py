"""Prompts rewritten by an endpoint: real HTTP on loopback, texts that get lost, and what a second call asks again."""

import json
from collections import Counter
from pathlib import Path

import pytest

from fewstep.data.cases import Case, write_jsonl
from fewstep.data.prompts.prompt_rewriter import TRIES, questions, rewrite_prompts
from fewstep.data.sources import cases_of, entries_of
from fewstep.runtime.errors import BudgetSpent, CaseError
from tests.cli.command_line import fewstep
from tests.data.prompts.test_grammar_edits import picture
from tests.data.prompts.test_prompt_writer import endpoint, endpoint_file
from tests.endpoint.fault_server import Call, FaultServer, Sent, says

SHOP = 'a shop with a sign "OPEN"'


def prompt_in(call: Call) -> str:
    return call.texts().rpartition("Rewrite this:\n")[2]


def expands(call: Call) -> Sent:
    return says(json.dumps({"prompts": [f"{prompt_in(call)}, seen from the street on a wet evening"]}))(call)


def forgets(call: Call) -> Sent:
    """Loses quoted text the first time, keeps it the second; never keeps "SHUT"."""
    kept = prompt_in(call) if call.number > 2 and "SHUT" not in call.texts() else "a shop that is open for business"
    return says(json.dumps({"prompts": [kept + " at dusk"]}))(call)


def cases(*prompts: str) -> list[Case]:
    return [Case(f"c{n}", "t2i", prompt) for n, prompt in enumerate(prompts)]


def test_each_case_gets_its_own_rewriting_and_a_second_call_asks_nothing(tmp_path: Path) -> None:
    given = cases("a boat on a lake", SHOP, "a hill under snow")
    with FaultServer(expands) as server:
        made = rewrite_prompts(given, endpoint(server), tmp_path / "r.jsonl", questions())
        assert [case.teacher_prompt for case in made] == [
            f"{case.prompt}, seen from the street on a wet evening" for case in given
        ]
        assert [case.prompt for case in made] == [case.prompt for case in given]
        assert rewrite_prompts(given, endpoint(server), tmp_path / "r.jsonl", questions()) == made
        assert len(server.calls) == 3


def test_a_rewriting_that_loses_quoted_text_is_asked_for_again_and_then_left_out(tmp_path: Path) -> None:
    with FaultServer(forgets) as server:
        given = cases("a boat on a lake", SHOP, SHOP.replace("OPEN", "SHUT"))
        boat, shop, shut = rewrite_prompts(given, endpoint(server), tmp_path / "r.jsonl", questions())
    assert boat.teacher_prompt == "a shop that is open for business at dusk"
    assert shop.teacher_prompt == f"{SHOP} at dusk"
    assert shut.teacher_prompt is None
    assert Counter(prompt_in(call) for call in server.calls)[given[2].prompt] == TRIES


def test_a_prompt_for_the_teachers_that_is_there_stays(tmp_path: Path) -> None:
    given = [Case("a", "t2i", "a boat", teacher_prompt="a boat of my own words"), *cases("a hill under snow")]
    with FaultServer(expands) as server:
        made = rewrite_prompts(given, endpoint(server), tmp_path / "r.jsonl", questions())
        assert made[0] == given[0]
        assert len(server.calls) == 1


def test_the_model_sees_the_pictures_of_an_edit(tmp_path: Path) -> None:
    edit = Case("e", "edit", "make the hat blue", references=(picture(tmp_path / "x.png"),))
    with FaultServer(expands) as server:
        rewrite_prompts([edit], endpoint(server), tmp_path / "r.jsonl", questions())
    (call,) = server.calls
    assert len(call.pictures()) == 1
    assert "image editing model" in call.texts()


def test_other_cases_or_words_are_another_record(tmp_path: Path) -> None:
    with FaultServer(expands) as server:
        rewrite_prompts(cases("a boat on a lake"), endpoint(server), tmp_path / "r.jsonl", questions())
        for other, words in ((cases("a hill"), None), (cases("a boat on a lake"), "Make it longer.")):
            with pytest.raises(CaseError, match="another set"):
                rewrite_prompts(other, endpoint(server), tmp_path / "r.jsonl", questions(words))


def test_a_budget_ends_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    given = cases(*(f"a boat number {n} on a lake" for n in range(12)))
    price = {"price": {"input": 100.0, "output": 100.0}, "concurrency": 1}
    with FaultServer(expands) as server:
        with pytest.raises(BudgetSpent):
            rewrite_prompts(given, endpoint(server, budget=0.7, **price), tmp_path / "r.jsonl", questions())
        asked = len(server.calls)
        assert 0 < asked < 12
        made = rewrite_prompts(given, endpoint(server, budget=9.0, **price), tmp_path / "r.jsonl", questions())
        assert all(case.teacher_prompt for case in made)
        assert len(server.calls) == 12


def test_the_command_writes_cases_and_names_those_without(tmp_path: Path) -> None:
    source, to = tmp_path / "cases.jsonl", tmp_path / "taught.jsonl"
    write_jsonl(source, cases("a boat on a lake", SHOP.replace("OPEN", "SHUT")))
    with FaultServer(forgets) as server:
        result = fewstep(
            "prompts", "rewrite", str(source), "--endpoint", str(endpoint_file(server, tmp_path)), "--to", str(to)
        )
    assert result.exit_code == 0, result.output
    assert "1 of 2 prompts rewritten" in result.output
    assert "1 cases have none" in result.output
    boat, shut = cases_of(entries_of(str(to), tmp_path / "pictures"), str(to))
    assert boat.teacher_prompt
    assert shut.teacher_prompt is None


def test_own_words_reach_the_model_and_empty_ones_are_refused(tmp_path: Path) -> None:
    source, words = tmp_path / "cases.jsonl", tmp_path / "words.txt"
    write_jsonl(source, cases("a boat on a lake"))
    with FaultServer(expands) as server:
        told = str(endpoint_file(server, tmp_path))
        command = ("prompts", "rewrite", str(source), "--endpoint", told, "--instructions", str(words), "--to")
        words.write_text("")
        refused = fewstep(*command, str(tmp_path / "a.jsonl"))
        assert refused.exit_code == 2
        assert "is empty" in refused.output
        words.write_text("Make it three times as long.")
        assert fewstep(*command, str(tmp_path / "b.jsonl")).exit_code == 0
    assert "Make it three times as long." in server.calls[0].texts()
