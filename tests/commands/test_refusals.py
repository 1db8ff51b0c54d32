"""Bad input at the command line: one clear message, exit code 2, no traceback, nothing half-written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands.conftest import fewstep, written


def refused(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    said = " ".join(result.output.split())
    for word in words:
        assert word in said, said


def test_an_unknown_recipe_names_the_shipped_ones() -> None:
    refused(fewstep("distill", "flashy"), "flashy", "pocket", "qwen-image-2.1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["run.iteration=3"], ["run.iteration", "did you mean run.iterations"]),
        (["student.sigmas=[0.5, 1.0, 0.2, 0.1]", "student.shift=null"], ["decrease"]),
        (["student.sigmas=[1.0, 0.5]", "student.shift=null"], ["student.steps is 4", "2"]),
        (["tasks.t2i=0", "tasks.edit=0"], ["0"]),
        (["teachers.base.guidance={t2i: {scale: -1}}"], ["guidance", "-1"]),
        (["teachers.preset=step-wise"], ["specialised teacher"]),
    ],
    ids=["unknown key", "rising grid", "wrong steps", "no task", "negative guidance", "no specialised teacher"],
)
def test_contradictory_keys(change: list[str], words: list[str], tmp_path: Path) -> None:
    options = [part for key in change for part in ("--set", key)]
    out = tmp_path / "run"
    refused(fewstep("distill", "pocket", "--out", out, *options), *words)
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none(tmp_path: Path) -> None:
    refused(fewstep("distill", "pocket", "--out", tmp_path / "run", "--set", "run.device=cuda"), "cuda", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_teacher_folder_without_its_weights(recipe: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "half"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "QwenImage21Pipeline"}')
    refused(
        fewstep("distill", written(recipe | {"model": str(folder)}, tmp_path), "--out", tmp_path / "run"), "missing"
    )


def test_a_torn_case_is_named_by_its_line(recipe: dict[str, Any], tmp_path: Path) -> None:
    with (tmp_path / "t2i.jsonl").open("a") as file:
        file.write('{"prompt": "torn')
    refused(fewstep("distill", written(recipe, tmp_path), "--out", tmp_path / "run"), "t2i.jsonl:5")
    refused(fewstep("cases", "check", tmp_path / "t2i.jsonl"), "t2i.jsonl:5")


def test_a_missing_picture_is_named(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "source.png").unlink()
    refused(fewstep("distill", written(recipe, tmp_path), "--out", tmp_path / "run"), "source.png", "edit.jsonl:1")


def test_an_output_folder_with_other_things_in_it(recipe: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    refused(fewstep("distill", written(recipe, tmp_path), "--out", out), "thesis.tex", "--out")
    assert (out / "thesis.tex").read_text() == "precious"


def test_debug_shows_where(tmp_path: Path) -> None:
    result = fewstep("distill", "pockets", "--debug")
    assert result.exception is not None
    assert type(result.exception).__name__ == "RecipeError"


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--size", "64"], "HEIGHTxWIDTH"), (["--out", "a.jpg"], "PNG"), (["-p", "b", "--out", "a.png"], "folder")],
)
def test_sample_options(options: list[str], word: str) -> None:
    refused(fewstep("sample", "pocket", "-p", "a", *options), word)


def test_a_teacher_to_go_on_from_that_is_not_there(tmp_path: Path) -> None:
    out = tmp_path / "work"
    refused(fewstep("pocket", "train", "--start", tmp_path / "nothing", "--out", out), "--start", "no pipeline folder")
    assert not out.exists()


def test_an_unknown_kind_of_specialist(tmp_path: Path) -> None:
    out = tmp_path / "lora"
    refused(fewstep("pocket", "specialise", "landscape", "--out", out), "landscape", "portrait, text, edit")
    assert not out.exists()
