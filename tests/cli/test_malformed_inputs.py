"""Inputs that nobody should give: no traceback, no silent acceptance, nothing written. `benchmarks/malformed.py` makes
300 of them a seed; here are a few of those that need no model."""

from pathlib import Path

import pytest

from tests.cli.attempts import Attempt, Verdict, contents, tried
from tests.cli.malformed_arguments import ARGUMENTS
from tests.cli.malformed_inputs import inputs
from tests.data.made_files import png, write

SEED = 20_261_129


@pytest.mark.parametrize(("kind", "count"), [("recipe", 60), ("cases", 40)])
def test_they_are_refused(kind: str, count: int, tmp_path: Path) -> None:
    verdicts = [tried(attempt, place) for attempt, place in inputs(SEED, count, tmp_path, [kind])]
    assert len(verdicts) == count
    assert not [verdict for verdict in verdicts if not verdict.passed]
    assert {verdict.code for verdict in verdicts} <= {0, 2}


LIGHT = [words for words in ARGUMENTS if words[0] in ("recipe", "cases", "study", "prompts")]


@pytest.mark.parametrize("words", LIGHT, ids=[" ".join(f"{word!a:.20}" for word in words) for words in LIGHT])
def test_so_are_arguments(words: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path / "file.png", png())
    write(tmp_path / "text.png", b"hello")
    write(tmp_path / "c.jsonl", '{"prompt": "a boat"}\n')
    verdict = tried(Attempt("arguments", "", words), tmp_path)
    assert verdict.passed, verdict


def test_what_a_verdict_counts(tmp_path: Path) -> None:
    """The judge of these tests, judged: acceptances, other refusals and debris are seen."""
    write(tmp_path / "c.jsonl", '{"prompt": "a boat"}\n')
    accepted = tried(Attempt("cases", "nothing", ("cases", "check", "c.jsonl")), tmp_path)
    assert (accepted.code, accepted.accepted, accepted.passed) == (0, True, False)
    other = tried(Attempt("cases", "nothing", ("cases", "check", "gone.jsonl"), told=("nowhere",)), tmp_path)
    assert (other.code, other.accepted) == (2, True)
    before = contents(tmp_path)
    write(tmp_path / "left/behind", "x")
    assert set(contents(tmp_path)) - set(before) == {"left", "left/behind"}
    good = Verdict(other.attempt, 2, "nowhere", "", 0.1, (), "")
    assert good.passed
    assert not Verdict(other.attempt, 2, "nowhere", "", 0.1, ("left",), "").passed
    assert not Verdict(other.attempt, 2, "nowhere", "KeyError", 0.1, (), "").passed
    assert not Verdict(other.attempt, 2, "nowhere", "", 0.1, (), "a.png").passed
