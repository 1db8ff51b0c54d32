"""Grammars, the prompts they expand to, and how varied those are."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewstep.data.prompts import grammar, grammar_prompts
from fewstep.data.prompts.dedup import PromptDedup
from fewstep.data.prompts.diversity import prompt_diversity
from fewstep.data.prompts.near_duplicates import NearDuplicates, jaccard
from fewstep.data.prompts.wording import finished_text, quoted
from fewstep.data.sources import entries
from fewstep.data.words import ngrams, words_of
from fewstep.runtime.errors import CaseError
from tests.cli.command_line import fewstep

SMALL = """
# a comment
hour:
  noon >light | midnight >dark
sky:
  sun @light
  stars | moon  @dark *2
  cloud !dark,light
line:
  at {hour} [under|beneath] the {sky:upper}, {#7-9} {#01-05}
"""


def small() -> grammar.Grammar:
    rules: dict[str, grammar.GrammarRule] = {}
    grammar.add_rules(SMALL.replace("noon >light | midnight >dark", "noon >light\n  midnight >dark"), rules)
    return grammar.Grammar(rules, ("hour",))


def lines(count: int, rule: str = "line", **slots: str) -> list[str]:
    return [small().expand(rule, random.Random(n), **slots).text for n in range(count)]


def test_what_was_chosen_first_decides_what_fits() -> None:
    expanded = lines(200)
    assert all(("noon" in line) == ("SUN" in line) for line in expanded)
    assert {re.sub(r"[\d ]+$", "", line) for line in expanded} >= {
        "at noon under the SUN,",
        "at midnight beneath the MOON,",
    }
    assert {int(line.split()[-2]) for line in expanded} == {7, 8, 9}
    assert {line.split()[-1] for line in expanded} == {"01", "02", "03", "04", "05"}


def test_weights_are_shares() -> None:
    skies = Counter(line.split()[4] for line in lines(2000) if "midnight" in line)
    assert set(skies) == {"STARS,", "MOON,"}
    assert 0.8 < skies["STARS,"] / skies["MOON,"] < 1.25


def test_what_is_decided_stays() -> None:
    assert all(line.startswith("at teatime") and "CLOUD" in line for line in lines(20, hour="teatime"))


@pytest.mark.parametrize("category", grammar_prompts.CATEGORIES)
def test_every_prompt_is_whole_english(category: str) -> None:
    for index in range(1500):
        prompt = grammar_prompts.draw_prompt(category, 99, index)
        assert not re.search(r"[{}\[\]|@]|a/an|  | [,.;]|\.\.|,\.", QUOTES.sub('"x"', prompt)), prompt
        assert prompt[0].isupper() or prompt[0] in '"8', prompt
        assert not re.search(
            r"\b[Aa] [aeio]\w+(?<!one)\b", QUOTES.sub('"x"', prompt).replace("one-", "").replace("a euro", "")
        ), prompt
        assert bool(quoted(prompt)) == (category == "text"), prompt
        assert prompt.count('"') % 2 == 0, prompt


QUOTES = re.compile(r'"[^"]*"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/an owl and a/an wolf", "An owl and a wolf"),
        ("A/AN OWL, A/AN SALT", "AN OWL, A SALT"),
        ("a/an hour, a/an union, a/an LED, a/an S-curve", "An hour, a union, an LED, an S-curve"),
        ("a/an one-legged, a/an European, a/an unlit, a/an 8 km", "A one-legged, a European, an unlit, an 8 km"),
        ('it reads  "Stop.  now ," .  then go', 'It reads "Stop.  now ,". Then go'),
        ("one, , two;. three", "One, two. Three"),
    ],
)
def test_wording(text: str, expected: str) -> None:
    assert finished_text(text) == expected


@given(seed=st.integers(0, 2**40), category=st.sampled_from(grammar_prompts.CATEGORIES), short=st.integers(1, 30))
def test_a_set_is_distinct_and_a_shorter_one_is_its_beginning(seed: int, category: str, short: int) -> None:
    cases = grammar_prompts.prompts_from_grammar(category, 40, seed)
    assert len({" ".join(words_of(case.prompt)) for case in cases}) == 40
    assert len({case.id for case in cases}) == 40
    assert grammar_prompts.prompts_from_grammar(category, short, seed) == cases[:short]


def test_another_seed_is_another_set() -> None:
    prompts = [{case.prompt for case in grammar_prompts.prompts_from_grammar("portrait", 200, seed)} for seed in (0, 1)]
    assert len(prompts[0] & prompts[1]) < 4


def test_every_process_expands_the_same() -> None:
    """Sets and dicts of strings are ordered anew in each process; prompts must not follow."""
    code = (
        "from fewstep.data.prompts import grammar_prompts; "
        "print([grammar_prompts.draw_prompt(c, 3, i) for c in grammar_prompts.CATEGORIES for i in range(9)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) > 1000, runs[0].stderr


@pytest.mark.parametrize("category", grammar_prompts.CATEGORIES)
def test_sets_are_varied(category: str) -> None:
    found = prompt_diversity([case.prompt for case in grammar_prompts.prompts_from_grammar(category, 1000, 0)])
    assert found.distinct == 1
    assert found.near == 0
    assert found.overlap < 0.015
    assert found.overlap_most < 0.6
    assert found.type_token_500 > 0.47
    assert found.vocabulary > 1000
    assert found.opening < 0.08
    assert found.words[0] >= 3
    assert found.words[1] >= 20
    assert found.words[3] <= 120


def test_measures_see_a_dull_set() -> None:
    dull = prompt_diversity([f"a photograph of a red house on a hill number {n % 50}" for n in range(100)])
    assert dull.distinct == 0.5
    assert dull.near > 0.9
    assert dull.overlap > 0.6
    assert dull.opening == 1


@pytest.mark.parametrize("category", grammar_prompts.CATEGORIES)
def test_a_benchmark_is_avoided(category: str) -> None:
    benchmark = [case.prompt for case in grammar_prompts.prompts_from_grammar(category, 100, 7)]
    cases = grammar_prompts.prompts_from_grammar(category, 300, 8, avoid=benchmark)
    held = {gram for prompt in benchmark for gram in ngrams(words_of(prompt))}
    assert len(cases) == 300
    assert not [case.prompt for case in cases if held & set(ngrams(words_of(case.prompt)))]
    free = grammar_prompts.prompts_from_grammar(category, 300, 8)
    assert [case.prompt for case in free if held & set(ngrams(words_of(case.prompt)))], "nothing was to be avoided"


def test_a_grammar_that_has_nothing_left_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_prompts, "draw_prompt", lambda *_: "always the same words")
    with pytest.raises(CaseError, match=r"after 1 .*said before"):
        grammar_prompts.prompts_from_grammar("text", 5, 0)


WORDS = st.lists(
    st.sampled_from(("red", "green", "blue", "old", "new", "house", "tree", "river", "stone", "night")),
    min_size=1,
    max_size=40,
)


@given(words=WORDS)
def test_the_same_words_are_near(words: list[str]) -> None:
    near = NearDuplicates()
    assert near.add(" ".join(words))
    assert not near.add("  ".join(words).upper() + "!")
    assert len(near) == 1


@given(seed=st.integers(0, 10_000), place=st.integers(3, 26))
def test_one_word_of_thirty_changes_nothing_and_another_text_everything(seed: int, place: int) -> None:
    letters = random.Random(seed)
    words = ["".join(letters.choices("abcdefghij", k=5)) for _ in range(30)]
    near = NearDuplicates()
    assert near.add(" ".join(words))
    assert not near.add(" ".join([*words[:place], "other", *words[place + 1 :]]))
    assert near.add(" ".join("".join(letters.choices("klmnop", k=5)) for _ in range(30)))


def test_likeness_is_jaccard() -> None:
    assert jaccard(frozenset({1, 2, 3}), frozenset({2, 3, 4})) == 0.5


def test_dedup_counts_what_it_drops() -> None:
    dedup = PromptDedup(["one two three four five six seven eight nine"])
    long = "a wooden boat on a still lake under a pale sky at dawn with reeds"
    assert dedup.admits(long)
    assert not dedup.admits(long.upper())
    assert not dedup.admits(long.replace("reeds", "rushes"))
    assert not dedup.admits("zero, two three four five six seven eight nine")
    assert dedup.admits(long, about="a picture")
    assert not dedup.admits(long, about="a picture")
    assert dedup.counts == {"kept": 2, "said before": 2, "nearly said before": 1, "in the benchmark": 1}


def test_the_command_writes_cases_that_can_be_read(tmp_path: Path) -> None:
    to = tmp_path / "sets" / "all.jsonl"
    result = fewstep("prompts", "build", "--category", "all", "--count", "30", "--to", to)
    assert result.exit_code == 0, result.output
    cases = list(entries(to))
    assert Counter(getattr(case, "category", case) for case in cases) == dict.fromkeys(grammar_prompts.CATEGORIES, 30)
    records = [json.loads(line) for line in to.read_text().splitlines()]
    assert all(("expect" in r) == (r["category"] == "text") for r in records)
    assert records[-1]["expect"]["text"] == quoted(records[-1]["prompt"])
    report = fewstep("prompts", "report", to)
    assert report.exit_code == 0
    assert "pairwise" in report.output
    assert [path.name for path in to.parent.iterdir()] == ["all.jsonl"]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["-c", "portait"], "there are landscape, portrait, text"),
        (["-c", "style"], "one of --task edit"),
        (["-c", "text", "--from", "x"], "add --task edit"),
        (["-c", "style", "--task", "edit"], "name them with --from"),
        (["-c", "text", "--avoid", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_bad_options_are_refused_at_once(words: list[str], remedy: str, tmp_path: Path) -> None:
    result = fewstep("prompts", "build", *words, "--to", tmp_path / "x.jsonl")
    assert result.exit_code == 2
    assert remedy in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    to = tmp_path / "mine.jsonl"
    to.write_text("precious")
    result = fewstep("prompts", "build", "-c", "text", "--count", "3", "--to", to)
    assert result.exit_code == 2
    assert "there already" in result.output
    assert to.read_text() == "precious"
    assert fewstep("prompts", "build", "-c", "text", "--count", "3", "--to", tmp_path / "mine.txt").exit_code == 2
