"""Pairs: both orders, no tie for want of an answer, and the advantage of being shown first laid bare."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from fewstep.bench.pair_verdict import PairFigures, pair_figures, read_pairs
from tests.bench.judged_gallery import gallery, judge_file
from tests.cli.command_line import fewstep
from tests.endpoint.fault_server import Call, FaultServer, Script, Sent, says


def answer(winner: str) -> Script:
    return says(json.dumps({"winner": winner, "reasoning": "so"}))


def compared(tmp_path: Path, script: Script, cases: int = 12) -> tuple[FaultServer, PairFigures]:
    """A judge's answers about two galleries, as figures for the first system."""
    a, b = gallery(tmp_path / "a", cases), gallery(tmp_path / "b", cases, system="teacher", first=500)
    with FaultServer(script) as server:
        result = fewstep("judge", "pair", a, b, "--judge", judge_file(tmp_path, server))
        assert result.exit_code == 0, result.output
    return server, pair_figures(read_pairs(a / "pairs" / "teacher" / "seer.jsonl"), "student")


def test_a_judge_that_takes_the_first_is_no_judge(tmp_path: Path) -> None:
    server, found = compared(tmp_path, answer("A"))
    assert len(server.calls) == 24
    assert (found.wins.value, found.order_effect.value, found.agreement.value) == (0.5, 1.0, 0.0)


def test_a_judge_that_knows_a_system_has_no_order_effect(tmp_path: Path) -> None:
    known: set[str] = set()

    def script(call: Call) -> Sent:
        """The picture of the first question's A, wherever it is shown, wins."""
        first, second = call.pictures()
        if second not in known:
            known.add(first)
        return answer("A" if first in known else "B")(call)

    _, found = compared(tmp_path, script)
    assert (found.order_effect.value, found.agreement.value, found.pairs) == (0.0, 1.0, 12)


def test_a_judge_that_leans_to_the_first_is_measured(tmp_path: Path) -> None:
    """It answers A in 70 of 100, B in 20, tie in 10: an order effect of 0.5."""
    rng = random.Random(5)
    _, found = compared(tmp_path, lambda call: answer(rng.choices(["A", "B", "tie"], [70, 20, 10])[0])(call), 60)
    effect = found.order_effect
    assert effect.low is not None
    assert effect.high is not None
    assert effect.low < 0.5 < effect.high
    assert effect.low > 0.2


def test_what_got_no_answer_is_no_tie(tmp_path: Path) -> None:
    scripts = [says("A is nicer"), says(None, refusal="no"), answer("tie")]
    server, found = compared(tmp_path, lambda call: scripts[min(call.number, 2)](call))
    lines = read_pairs(tmp_path / "a" / "pairs" / "teacher" / "seer.jsonl")
    assert Counter(line.status for line in lines) == {"ok": 22, "invalid": 1, "refused": 1}
    assert {line.won for line in lines if line.status != "ok"} == {None}
    assert found.pairs + found.half >= 11
    with FaultServer(answer("tie")) as again:
        file = judge_file(tmp_path, again)
        assert fewstep("judge", "pair", tmp_path / "a", tmp_path / "b", "--judge", file).exit_code == 0
        assert not again.calls
        assert fewstep("judge", "pair", tmp_path / "a", tmp_path / "b", "--judge", file, "--retry").exit_code == 0
        assert len(again.calls) == 2
    assert len(server.calls) == 24


def test_galleries_that_cannot_be_compared(tmp_path: Path) -> None:
    a, b = gallery(tmp_path / "a", 3), gallery(tmp_path / "b", 4, system="teacher")
    file = judge_file(tmp_path, "http://127.0.0.1:9/v1")
    for other, words in ((b, "one suite"), (a, "both galleries are called")):
        result = fewstep("judge", "pair", a, other, "--judge", file)
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())


def test_limit_counts_pairs(tmp_path: Path) -> None:
    a, b = gallery(tmp_path / "a", 5), gallery(tmp_path / "b", 5, system="teacher", first=9)
    with FaultServer(answer("B")) as server:
        file = judge_file(tmp_path, server)
        assert fewstep("judge", "pair", a, b, "--judge", file, "--limit", 2).exit_code == 0
        dry = fewstep("judge", "pair", a, b, "--judge", file, "--dry-run")
    assert len(server.calls) == 4
    assert "6" in dry.output.split("pictures")[0]


@pytest.mark.parametrize("protocol", ["t2i-v1"])
def test_a_rating_protocol_does_not_compare(tmp_path: Path, protocol: str) -> None:
    a, b = gallery(tmp_path / "a", 2), gallery(tmp_path / "b", 2, system="teacher")
    file = judge_file(tmp_path, "http://127.0.0.1:9/v1")
    result = fewstep("judge", "pair", a, b, "--judge", file, "--protocol", protocol)
    assert result.exit_code == 2
    assert "pair-v1" in result.output


@pytest.mark.parametrize("name", ["runs/pocket/student", "Their model"])
def test_pairs_of_a_system_whose_name_no_folder_can_have_are_in_the_report(tmp_path: Path, name: str) -> None:
    a, b = gallery(tmp_path / "a", 4), gallery(tmp_path / "b", 4, system=name, first=500)
    with FaultServer(answer("A")) as server:
        assert fewstep("judge", "pair", a, b, "--judge", judge_file(tmp_path, server)).exit_code == 0
    [file] = a.glob("pairs/*/seer.jsonl")
    assert {v.second for v in read_pairs(file)} == {"student", name}
    older = file.read_text().replace(json.dumps(name), json.dumps(file.parent.name))  # as older records have it
    for text in (file.read_text(), older):
        file.write_text(text)
        result = fewstep("bench", "report", a, b, "--to", tmp_path / "r", "--no-pictures")
        assert result.exit_code == 0, result.output
        assert f"wins against {name}" in (tmp_path / "r" / "index.html").read_text()
