"""Converting any source to one file of cases, with its pictures beside it."""

import json
from pathlib import Path

import pytest

from fewstep.data.cases import record_of
from fewstep.data.convert import convert
from fewstep.runtime.errors import CaseError
from tests.data.made_files import SAMPLES, found, packed, png, write


def test_converting_keeps_everything(tmp_path: Path) -> None:
    to = tmp_path / "out" / "cases.jsonl"
    convert(str(packed(tmp_path / "s.tar", SAMPLES)), to)
    again = found(to, tmp_path)
    assert [(case.id, case.task, case.category, case.prompt) for case in again] == [
        ("n/001", "t2i", "uncategorised", "a boat"),
        ("n/002", "edit", "object", "join"),
    ]
    records = [json.loads(line) for line in to.read_text().splitlines()]
    assert all(name.startswith("cases-pictures/") for name in records[1]["reference_images"])
    (tmp_path / "moved").mkdir()
    (tmp_path / "out").rename(tmp_path / "moved" / "out")
    assert len(found(tmp_path / "moved" / "out" / "cases.jsonl", tmp_path)) == 2, "the pictures went along"


def test_converting_a_folder_names_its_pictures_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "set" / "x.png", png())
    write(tmp_path / "set" / "x.txt", "a boat")
    monkeypatch.chdir(tmp_path)
    cases = convert("set", Path("cases.jsonl"))
    assert json.loads(Path("cases.jsonl").read_text())["target_image"] == "set/x.png"
    assert record_of(cases[0], tmp_path)["target_image"] == "set/x.png"
    assert not Path("cases-pictures").exists()


def test_nothing_is_left_of_a_conversion_that_was_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "s.tar", {**SAMPLES, "n/003.png": png()})
    with pytest.raises(CaseError, match="n/003: no prompt"):
        convert(str(path), tmp_path / "cases.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["s.tar"]
    write(tmp_path / "there.jsonl", "precious")
    with pytest.raises(CaseError, match="is there already"):
        convert(str(path), tmp_path / "there.jsonl")
    with pytest.raises(CaseError, match=r"name a file that ends in \.jsonl"):
        convert(str(path), tmp_path / "cases.csv")
