"""Verdicts that were edited, cut or doubled are refused by file and line. Left out or taken, they would change the
figures without a word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewstep.bench.pair_verdict import read_pairs
from fewstep.bench.suite import Suite
from fewstep.bench.verdict import Verdict, read_verdicts, write_verdicts
from fewstep.runtime.errors import FewstepError, JudgeError
from tests.bench.plain_galleries import drawn, judged, picture, suite  # noqa: F401
from tests.cli.command_line import fewstep

Edit = Callable[[dict[str, Any]], dict[str, Any]]


def verdict(case: str, score: float | None = 4.0, repeat: int = 0) -> Verdict:
    status = "refused" if score is None else "ok"
    about = {"seed": 1, "task": "t2i", "category": "x", "judge": "j", "model": None, "protocol": "t2i-v1"}
    return Verdict(key=case, case=case, status=status, score=score, repeat=repeat, **about)  # type: ignore[arg-type]


def written(tmp_path: Path) -> Path:
    """Three cases, one of them refused."""
    return write_verdicts(tmp_path, "j", [verdict("a"), verdict("b", None), verdict("c", 2.5), verdict("c", 3.5, 1)])


def edited(path: Path, line: int, change: Edit) -> None:
    lines = path.read_text().splitlines()
    lines[line] = json.dumps(change(json.loads(lines[line])))
    path.write_text("\n".join(lines) + "\n")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    assert [v.score for v in read_verdicts(tmp_path)["j"]] == [4.0, None, 2.5, 3.5]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"score": 99}, "score is 99, beyond 1 to 5"),
        ({"score": 0.5}, "score is 0.5"),
        ({"score": "4.5"}, "score is '4.5', no number"),
        ({"score": True}, "score is True"),
        ({"score": float("nan")}, "score is nan"),
        ({"sub_scores": {"quality": 6}}, "quality is 6"),
        ({"sub_scores": {"quality": "good"}}, "sub_scores"),
        ({"sub_scores": [3]}, "sub_scores"),
        ({"score": None}, "status ok with score None"),
        ({"status": "refused"}, "status refused with score 2.5"),
        ({"status": "fine"}, "status 'fine'"),
        ({"status": ["ok"]}, "status is"),
        ({"case": 7}, "case is 7, no text"),
        ({"case": None}, "case is null"),
        ({"seed": "1"}, "seed is '1'"),
        ({"repeat": 0.5}, "repeat is 0.5"),
        ({"failure_modes": "noise"}, "failure_modes"),
        ({"tokens": [1]}, "tokens"),
        ({"cost": "free"}, "cost"),
        ({"case": "a"}, "a second verdict on case 'a', seed 1"),
    ],
)
def test_an_edited_line_is_refused_by_file_and_line(change: dict[str, Any], word: str, tmp_path: Path) -> None:
    path = written(tmp_path)
    edited(path, 2, lambda record: record | change)
    with pytest.raises(JudgeError) as refused:
        read_verdicts(tmp_path)
    assert f"{path}:3" in str(refused.value)
    assert word in str(refused.value)
    assert "judge run" in str(refused.value)


def test_a_line_without_a_key_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    edited(path, 0, lambda record: {name: value for name, value in record.items() if name != "category"})
    with pytest.raises(JudgeError, match=r"j\.jsonl:1: .*lacks category"):
        read_verdicts(tmp_path)


@pytest.mark.parametrize("line", [0, 2, 3])
@pytest.mark.parametrize("instead", ["", "half", "[]", "null", "{" * 3_000])
def test_a_torn_line_does_not_vanish(line: int, instead: str, tmp_path: Path) -> None:
    """The file is only ever written whole, so not even its last line can be torn by a kill."""
    path = written(tmp_path)
    lines = path.read_text().splitlines()
    lines[line] = lines[line][:40] if instead in ("", "half") else instead
    path.write_text("\n".join(lines) + ("\n" if instead != "half" else ""))
    with pytest.raises(JudgeError, match=rf"j\.jsonl:{line + 1}: the line is cut off"):
        read_verdicts(tmp_path)


def test_every_reader_refuses_it(suite: Suite, tmp_path: Path) -> None:  # noqa: F811
    good = judged(suite, drawn(suite, tmp_path / "good", picture), lambda i: 4.0)
    bad = judged(suite, drawn(suite, tmp_path / "bad", picture), lambda i: 3.0)
    edited(bad / "verdicts" / "probe.jsonl", 4, lambda record: record | {"score": 99})
    for words in (
        ("bench", "rank", good, bad),
        ("bench", "compare", good, bad),
        ("bench", "report", good, bad, "--to", tmp_path / "report"),
    ):
        result = fewstep(*words)
        assert result.exit_code in (2, 3)
        assert "probe.jsonl:5" in result.output
        assert "Traceback" not in result.output
    assert not (tmp_path / "report").exists()


PAIR = {
    "key": "k", "case": "a", "seed": 1, "task": "t2i", "category": "x", "judge": "j", "model": "m",
    "protocol": "pair-v1", "first": "one", "second": "two", "status": "ok", "repeat": 0, "won": "first",
}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([PAIR, PAIR], ":2: a second verdict on the pair of"),
        ([PAIR | {"won": "third"}], ":1: .*won 'third'"),
        ([PAIR | {"won": None}], ":1: .*status ok with won None"),
        ([PAIR | {"status": "refused"}], ":1: .*status refused with won 'first'"),
        ([PAIR, {"case": "b"}], ":2: .*lacks key"),
        ([PAIR, PAIR | {"first": "two", "second": "one", "seed": None}], ":2: .*seed is null"),
    ],
)
def test_verdicts_on_pairs_are_held_as_strictly(lines: list[dict[str, Any]], word: str, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(FewstepError, match=word):
        read_pairs(path)
    path.write_text(json.dumps(PAIR) + "\n" + json.dumps(PAIR | {"first": "two", "second": "one"}) + "\n")
    assert len(read_pairs(path)) == 2
