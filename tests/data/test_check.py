"""`fewstep cases check`: counts, duplicates, problems, and words that a benchmark shares."""

import json
from pathlib import Path

import pytest

from fewstep.data.check import check_sources
from fewstep.runtime.errors import CaseError
from tests.data.made_files import SAMPLES, T2I, jsonl, packed, picture, write


def test_check_counts_finds_duplicates_and_names_each_problem(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "same.png")
    picture(tmp_path / "b.png", (20, 20))
    edit = {"prompt": "make it  BLUE", "category": "object"}
    path = jsonl(
        tmp_path,
        {**T2I, "category": "landscape"},
        {"prompt": "A red\tboat"},
        {**edit, "control": "a.png"},
        {**edit, "control": "same.png", "prompt": "Make it blue"},
        {**edit, "control": "b.png"},
        {"prompt": ""},
    )
    report = check_sources([path, tmp_path / "gone.jsonl"])
    assert report.counts == {("edit", "object"): 3, ("t2i", "landscape"): 1, ("t2i", "uncategorised"): 1}
    assert report.duplicates == ((f"{path}:1", f"{path}:2"), (f"{path}:3", f"{path}:4"))
    assert len(report.problems) == 2
    assert f"{path}:6: the prompt is empty" in report.problems[0]
    assert not report.passed
    assert check_sources([jsonl(tmp_path, T2I)]).passed


def test_check_of_nothing_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_text("")
    assert "no case in it" in check_sources([tmp_path / "cases.jsonl"]).problems[0]


# ---- overlap with a benchmark

LONG = "a small red boat lies on the quiet lake before the mountains"


def test_overlap_with_a_suite_is_found_by_eight_words(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    write(suite / "suite.json", "{}")
    lines = [
        {"prompt": f"At dawn {LONG.upper()}, softly"},
        {"prompt": "a red house"},
        {"prompt": "小さな赤い船が湖に浮かぶ"},
    ]
    write(suite / "cases.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    mine = [
        f"photo: {LONG}",
        "a small red boat lies on the sea",
        "A red house.",
        "a red house at night",
        "小さな赤い船が湖に沈む",
    ]
    path = write(tmp_path / "mine.txt", "\n".join(mine))
    report = check_sources([path], against=suite)
    assert [(found.where, found.suite) for found in report.overlap] == [
        (f"{path}:1", f"{suite}/cases.jsonl:1"),
        (f"{path}:3", f"{suite}/cases.jsonl:2"),
        (f"{path}:5", f"{suite}/cases.jsonl:3"),
    ]
    assert report.overlap[0].words == "a small red boat lies on the quiet"
    assert report.passed, "worth a look, and no failure"
    assert check_sources([path]).overlap == ()


@pytest.mark.parametrize("name", ["gone.jsonl", "empty", "s.csv"])
def test_suites_without_prompts_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "s.csv", "prompt\na\n")
    with pytest.raises(CaseError, match=name):
        check_sources([write(tmp_path / "mine.txt", "a")], against=tmp_path / name)


def test_check_reads_archives_and_leaves_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path / "s.tar", {**SAMPLES, "n/004.txt": b"A boat"})
    counted: list[int] = []
    report = check_sources([path], on_progress=counted.append)
    assert report.counts == {("edit", "object"): 1, ("t2i", "uncategorised"): 2}
    assert report.duplicates == ((f"{path}:n/001", f"{path}:n/004"),)
    assert counted == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [path]
