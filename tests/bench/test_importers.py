"""Published layouts, on tiny files of our own."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from fewstep.bench.importers import import_suite
from fewstep.bench.suite import Suite
from fewstep.bench.suites import read_suite
from fewstep.runtime.errors import CaseError, SuiteError
from tests.bench.small_suites import plain
from tests.cli.command_line import fewstep


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def table(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def imported(layout: str, source: Path, tmp_path: Path, language: str | None = None) -> Suite:
    import_suite(layout, source, tmp_path / "suite", language)
    return read_suite(tmp_path / "suite")


def gedit(folder: Path) -> Path:
    file = io.BytesIO()
    plain("green").save(file, "PNG")
    picture = {"bytes": file.getvalue(), "path": None}
    rows = [
        {
            "task_type": task,
            "key": key,
            "instruction": words,
            "instruction_language": language,
            "Intersection_exist": True,
        }
        | {"input_image": picture, "input_image_raw": picture}
        for task, key, words, language in (
            ("color_alter", "aa1", "make it red", "en"),
            ("text_change", "bb2", "change the sign", "en"),
            ("color_alter", "aa1", "变成红色", "cn"),
        )
    ]
    (folder / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "data" / "train-0.parquet")
    return folder


def test_gedit(tmp_path: Path) -> None:
    suite = imported("gedit", gedit(tmp_path / "gedit"), tmp_path)
    assert (suite.name, suite.task, suite.seeds) == ("gedit", "edit", 1)
    assert [(q.case.id, q.case.prompt, q.case.category) for q in suite.questions] == [
        ("gedit-color_alter-aa1", "make it red", "color_alter"),
        ("gedit-text_change-bb2", "change the sign", "text_change"),
    ]
    assert suite.questions[0].case.references[0].is_file()


def test_gedit_in_chinese(tmp_path: Path) -> None:
    suite = imported("gedit", gedit(tmp_path / "gedit"), tmp_path, "cn")
    assert suite.name == "gedit-cn"
    assert [q.case.prompt for q in suite.questions] == ["变成红色"]


@pytest.mark.parametrize("name", ["basic_edit.json", "singleturn.json"])
def test_imgedit(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "Benchmark" / "singleturn"
    (folder / "animal").mkdir(parents=True)
    plain().save(folder / "animal" / "7.jpg")
    edit = {"id": "animal/7.jpg", "prompt": "smooth the shell", "edit_type": "adjust"}
    (folder / name).write_text(json.dumps({"1082": edit}))
    suite = imported("imgedit", tmp_path / "Benchmark", tmp_path)
    (question,) = suite.questions
    assert (question.case.id, question.case.category) == ("imgedit-1082", "adjust")
    (folder / "animal" / "7.jpg").unlink()
    with pytest.raises(CaseError, match=r"7\.jpg"):
        import_suite("imgedit", folder / name, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_longtext(tmp_path: Path) -> None:
    row = {"prompt_id": 3, "prompt": 'a board that reads "GO SLOW" and "12"', "category": "signboard"}
    lines(tmp_path / "textbench" / "text_prompts.jsonl", [row | {"length": "short", "text": ["GO SLOW", "12"]}])
    suite = imported("longtext", tmp_path / "textbench", tmp_path)
    (question,) = suite.questions
    assert (question.case.id, question.case.category, suite.seeds) == ("longtext-0003", "signboard", 4)
    assert question.expect["text"] == ["GO SLOW", "12"]


def test_geneval(tmp_path: Path) -> None:
    include = [{"class": "cat", "count": 2, "color": "red"}]
    row = {"tag": "counting", "include": include, "exclude": [{"class": "cat", "count": 3}], "prompt": "two red cats"}
    lines(
        tmp_path / "geneval" / "prompts" / "evaluation_metadata.jsonl", [row, row | {"prompt": "other", "exclude": []}]
    )
    suite = imported("geneval", tmp_path / "geneval", tmp_path)
    assert [q.case.id for q in suite.questions] == ["geneval-00000", "geneval-00001"]
    assert suite.questions[0].expect["objects"] == include
    assert suite.questions[0].case.category == "counting"


def test_oneig(tmp_path: Path) -> None:
    rows = [
        {
            "category": "Text_Rendering",
            "id": "000",
            "prompt_en": "a sign",
            "type": "T",
            "prompt_length": "short",
            "class": "",
        },
        {
            "category": "Portrait",
            "id": "000",
            "prompt_en": "a man, old",
            "type": "T",
            "prompt_length": "short",
            "class": "",
        },
    ]
    table(tmp_path / "oneig" / "OneIG-Bench.csv", rows)
    table(tmp_path / "oneig" / "scripts" / "text" / "text_content.csv", [{"id": "000", "text_content": "GO\nSLOW"}])
    suite = imported("oneig", tmp_path / "oneig", tmp_path)
    assert [q.case.id for q in suite.questions] == ["oneig-Text_Rendering-000", "oneig-Portrait-000"]
    assert suite.questions[0].expect["text"] == ["GO", "SLOW"]
    assert "text" not in suite.questions[1].expect
    assert suite.license == "CC-BY-NC-4.0"


@pytest.mark.parametrize(
    ("layout", "name", "content", "words"),
    [
        ("longtext", "text_prompts.jsonl", '{"prompt": "x"}', "text is None"),
        ("longtext", "text_prompts.jsonl", "{torn", "no JSON"),
        ("geneval", "evaluation_metadata.jsonl", '{"prompt": "x"}', "tag is None"),
        ("oneig", "OneIG-Bench.csv", "category,id\na,b\n", "lacks the column prompt_en"),
        ("imgedit", "basic_edit.json", "[]", "no object of edits"),
        ("imgedit", "basic_edit.json", '{"1": {"id": 4.5}}', "id is 4.5"),
        ("gedit", "x.parquet", "PAR", "no whole parquet"),
        ("geneval", "other.txt", "", "holds no evaluation_metadata"),
        ("gedit", "other.txt", "", "holds no .parquet"),
        ("wikipedia", "other.txt", "", "gedit, imgedit, longtext, geneval, oneig"),
    ],
)
def test_another_layout_is_refused_and_nothing_left(
    layout: str, name: str, content: str, words: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / name).write_text(content)
    with pytest.raises(SuiteError, match=words):
        import_suite(layout, source, tmp_path / "suite")
    assert not (tmp_path / "suite").exists()


def test_the_command(tmp_path: Path) -> None:
    lines(tmp_path / "g" / "evaluation_metadata.jsonl", [{"tag": "colors", "include": [], "prompt": "a red cup"}])
    words = ("bench", "import", "geneval", tmp_path / "g", "--to", tmp_path / "suite")
    assert fewstep(*words).exit_code == 0
    assert fewstep(*words).exit_code == 2  # frozen
    assert fewstep("bench", "import", "geneval", tmp_path / "no", "--to", tmp_path / "x").exit_code == 2
    assert fewstep(*words[:-1], tmp_path / "y", "--language", "cn").exit_code == 2
