"""A plan that is asked again: answered from what was kept, without a model's code, and never from something else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import fewstep as package
from fewstep.run.budget import needs
from fewstep.run.budget.kept_answers import FOLDER
from fewstep.run.budget.kept_forecasts import FOLDER as FORECASTS
from fewstep.run.budget.question import model_files
from tests.cli.command_line import fewstep, write_recipe

MODELS = ("torch", "diffusers", "transformers", "accelerate", "peft")
PROGRAM = """
import json, sys
from fewstep.cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    print("ENDED", end.code, [name for name in {models} if name in sys.modules], file=sys.stderr)
""".replace("{models}", repr(MODELS))
KEPT = "--anew counts it again"
JUDGE = 'model = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'


@pytest.fixture
def model(recipe: dict[str, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(recipe["model"], tmp_path / "model"))


@pytest.fixture
def words(recipe: dict[str, Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A plan of two tasks with an empty cache."""
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    few = {"student": recipe["student"] | {"steps": 1}, "model": str(model)}
    return ["plan", write_recipe(recipe | few, tmp_path), "--out", str(tmp_path / "run")]


def in_process(words: list[str]) -> tuple[str, str]:
    """Standard output and error of a process of its own."""
    source = {"PYTHONPATH": str(Path(package.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], env=os.environ | source, capture_output=True, text=True, check=False
    )
    return done.stdout, done.stderr


def counted(result: Result) -> bool:
    assert result.exit_code in (0, 2), result.output
    return KEPT not in result.stderr


def test_the_same_question_is_answered_without_what_runs_a_model(words: list[str]) -> None:
    first = fewstep(*words)
    assert counted(first)
    out, told = in_process(words)
    assert out == first.stdout
    assert KEPT in told
    assert told.endswith("ENDED 0 []\n")

    first = fewstep(*words, "--json")
    assert first.stderr == "", "nothing beside what a program reads"
    out, told = in_process([*words, "--json"])
    assert (out, told) == (first.stdout, "ENDED 0 []\n")
    assert json.loads(out)["tasks"].keys() == {"t2i", "edit"}


def test_what_does_not_fit_still_ends_with_2(words: list[str]) -> None:
    large = ["size=[256, 256]", "run.batch=512", "run.gradient_checkpointing=full", "tasks={t2i: 1, edit: 0}"]
    words += ["--gpu", "1", *(word for key in large for word in ("--set", key))]
    first, again = fewstep(*words), fewstep(*words)
    assert (first.exit_code, again.exit_code) == (2, 2)
    assert again.stdout == first.stdout
    assert (counted(first), counted(again)) == (True, False)


def test_a_changed_file_or_option_is_counted(words: list[str], tmp_path: Path) -> None:
    assert [counted(fewstep(*words)) for _ in range(2)] == [True, False]
    cases = tmp_path / "t2i.jsonl"
    longer = cases.read_text().replace("number 3", "number three, beside a lake")
    cases.write_text(longer)
    assert [counted(fewstep(*words)) for _ in range(2)] == [True, False]
    assert [counted(fewstep(*words, "--gpu", "24")) for _ in range(2)] == [True, False]
    cases.unlink()
    gone = fewstep(*words)
    assert counted(gone)
    assert "t2i.jsonl not found" in gone.stdout.replace("\n", "")


def test_a_kept_answer_that_is_damaged_is_none(words: list[str], tmp_path: Path) -> None:
    first = fewstep(*words)
    (file,) = (tmp_path / "cache" / FOLDER).iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:-9], whole.replace(b"GB on", b"MB on"), b"", b"\xff\xfe", b"{}\n{}"):
        file.write_bytes(damaged)
        again = fewstep(*words)
        assert counted(again)
        assert again.stdout == first.stdout
    assert file.read_bytes() != b"{}\n{}", "and kept anew"


def test_a_cache_that_cannot_be_written_costs_time_alone(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "file"))
    assert [counted(fewstep(*words, "--set", "tasks={t2i: 1, edit: 0}")) for _ in range(2)] == [True, True]


def test_anew_reads_neither_answers_nor_forecasts(words: list[str], tmp_path: Path) -> None:
    first = fewstep(*words)
    files = sorted((tmp_path / "cache" / FORECASTS).iterdir())
    before = [file.stat().st_mtime_ns for file in files]
    again = fewstep(*words, "--anew")
    assert counted(again)
    assert again.stdout == first.stdout
    after = [file.stat().st_mtime_ns for file in files]
    assert all(new > old for new, old in zip(after, before, strict=True))
    assert not counted(fewstep(*words))


def test_an_answer_is_not_kept_where_a_file_changed_meanwhile(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, metrics = needs.needs_of, tmp_path / "metrics.jsonl"
    line = {"phase": "distil", "seconds": {"iteration": 1.0}}
    metrics.write_text("".join(json.dumps(line | {"task": task}) + "\n" for task in ("t2i", "edit")))

    def meanwhile(*given: Any) -> Any:
        found = whole(*given)
        metrics.write_text(metrics.read_text().replace("1.0", "2.0"))
        return found

    monkeypatch.setattr(needs, "needs_of", meanwhile)
    assert [counted(fewstep(*words, "--measured", tmp_path)) for _ in range(3)] == [True, True, False]


def test_whatever_a_plan_opens_is_part_of_its_question(words: list[str], model: Path, tmp_path: Path) -> None:
    """Files of the user and of the model: cases and pictures are told by shapes, the others by their content."""
    judge = tmp_path / "judge.toml"
    judge.write_text(JUDGE)
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    examined = {"run.examine_every_iterations": 2, "examine.judge.file": judge}
    words += [word for key, value in examined.items() for word in ("--set", f"{key}={value}")]
    with opened_files() as opened:
        result = fewstep(*words)
    assert result.exit_code == 0, result.output
    assert "judge judge:" in result.stdout
    by_content = {*model_files(str(model)), judge}
    by_shapes = {tmp_path / name for name in ("recipe.yaml", "t2i.jsonl", "edit.jsonl", "source.png")}
    mine = {path for path in opened if path.is_relative_to(tmp_path) and "cache" not in path.parts}
    assert mine == by_content | by_shapes


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """The files that Python opens meanwhile. (What opens files by itself, such as the tokenizer, is not seen.)"""
    opened, looking = set[Path](), [True]

    def look(event: str, given: Any) -> None:
        if looking[0] and event == "open" and isinstance(given[0], str):
            opened.add(Path(given[0]))

    sys.addaudithook(look)  # it cannot be taken away again
    yield opened
    looking[0] = False
