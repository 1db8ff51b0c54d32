"""`fewstep cases` end to end: what it prints, and that bad cases are refused before any model is loaded."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.command_line import fewstep, refused, write_recipe


def output_of(*arguments: str | Path) -> str:
    result = fewstep(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.replace("│", " ").split())


# ---- plan


def test_plan_prints_what_a_run_will_see(
    recipe: dict[str, Any], tmp_path: Path, model_must_stay_unloaded: None
) -> None:
    recipe["tasks"] = [{"until": 2, "t2i": 1, "edit": 0}, {"t2i": 1, "edit": 1}]
    output = output_of("cases", "plan", write_recipe(recipe, tmp_path), "--out", tmp_path / "runs" / "a")
    for part in (
        "0 to 1 1:0 2 0",
        "2 to 3 1:1 1 1",
        "t2i landscape 6 75.0 %",
        "edit scene 2 25.0 %",
        "6 4 4 1.50",
        "2 4 2 0.50",
        "8 conditionings and 1 sets of reference pictures",
        "An estimate, from its config and its tokenizer",
    ):
        assert part in output, output
    assert not (tmp_path / "runs" / "a").exists()


@pytest.mark.parametrize("command", ["cases plan", "encode"])
def test_how_many_layouts_there_are_is_told(recipe: dict[str, Any], tmp_path: Path, command: str) -> None:
    file = write_recipe(recipe, tmp_path)
    assert "layouts, by" not in output_of("cases", "plan", file, "--out", tmp_path / "runs" / "a"), "all have one"
    for n, width in enumerate((64, 160, 64, 80)):
        Image.new("RGB", (width, 64), "teal").save(tmp_path / f"{n}.png")
    edits = [{"prompt": f"make it night {n}", "reference_images": [f"{n}.png"]} for n in range(4)]
    (tmp_path / "edit.jsonl").write_text("".join(json.dumps(edit) + "\n" for edit in edits))
    recipe["data"]["sizes"] = {"t2i": [{"size": [64, 64]}, {"size": [96, 32]}]}
    output = output_of(*command.split(), write_recipe(recipe, tmp_path), "--out", tmp_path / "runs" / "a")
    assert "edits: 4 cases of 2 layouts, by size 64 x 64 (75%), 32 x 96 (25%); 4 have too few" in output, output
    assert "text to image: 4 cases of 2 layouts, by size" in output


def test_sizes_that_no_case_is_trained_at_are_told(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["data"]["sizes"] = {"t2i": [{"size": [64, 96], "weight": 10**9}, {"size": [96, 32]}]}
    output = output_of("cases", "plan", write_recipe(recipe, tmp_path), "--out", tmp_path / "runs" / "a")
    assert "none of the 4 prompts without a size of their own was drawn for 96 x 32 px" in output
    assert "`size` 64 x 64 px is none of them" in output


def test_check_says_what_sizes_a_model_gives_edits(recipe: dict[str, Any], tmp_path: Path) -> None:
    for n, shape in enumerate([(64, 64), (160, 64), (2000, 1000)]):
        Image.new("RGB", shape).save(tmp_path / f"{n}.png")
    edits = [{"prompt": f"make it night {n}", "reference_images": [f"{n}.png"]} for n in range(3)]
    (tmp_path / "edit.jsonl").write_text("".join(json.dumps(edit) + "\n" for edit in edits))
    output = output_of("cases", "check", tmp_path / "edit.jsonl", "--model", recipe["model"])
    assert (
        "edits without a size, of a model whose own is 1024 x 1024 px: 3 sizes, most frequent 1024 x 1024 (1)" in output
    )


def test_what_was_planned_is_what_a_run_logs(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["tasks"] = [{"until": 3, "t2i": 2, "edit": 1}, {"t2i": 0, "edit": 1}]
    file, run = write_recipe(recipe, tmp_path), tmp_path / "runs" / "a"
    output = output_of("cases", "plan", file, "--out", run)
    assert fewstep("distill", file, "--out", run).exit_code == 0
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["tasks"] == {"t2i": 4, "edit": 4}
    assert last["categories"] == {"t2i/landscape": 4, "edit/scene": 4}
    assert "t2i landscape 4 50.0 %" in output
    assert "edit scene 4 50.0 %" in output


def test_presets_and_single_tasks_at_the_command_line(tmp_path: Path) -> None:
    small = ("--set", "data.t2i.0.source=pocket:t2i:30", "--set", "tasks.t2i=10", "--set", "tasks.edit=0")
    out = ("--out", tmp_path / "run", "--set", "run.iterations=4", "--set", "run.batch=6")
    output = output_of("cases", "plan", "pocket", *small, *out, "--set", "data.preset=E4")
    assert "t2i landscape 12 50.0 % t2i portrait 12 50.0 %" in output
    assert "pocket:t2i:30 24 20 20 1.20" in output
    assert "edit " not in output.partition("24 samples")[2].partition("samples, by source")[0]


# ---- convert and check


def test_convert_then_check(tmp_path: Path) -> None:
    output = output_of("cases", "convert", "pocket:edit:6", "--to", tmp_path / "c.jsonl")
    assert "6 cases in" in output
    assert "c-pictures" in output
    output = output_of("cases", "check", tmp_path / "c.jsonl", "--against", tmp_path / "c.jsonl")
    assert "6 usable cases" in output
    assert "6 cases share words with" in output
    refused(fewstep("cases", "convert", "pocket:edit:6", "--to", tmp_path / "c.jsonl"), "is there already")


def test_what_a_file_holds_is_printed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"prompt": "[/red][bold]a"}\n{"prompt": "[/red][bold]a"}\n{"task": "[/red]"}\n')
    refused(fewstep("cases", "check", tmp_path / "c.jsonl"), "c.jsonl:3", "'[/red]' is not known")
    to = tmp_path / "d.jsonl"
    refused(fewstep("cases", "convert", tmp_path / "c.jsonl", "--to", to), "c.jsonl:3", "'[/red]' is not known")


def test_a_label_with_brackets_is_a_label(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"prompt": "a", "category": "[red]sea[/]"}\n')
    assert "t2i [red]sea[/] 1" in output_of("cases", "check", tmp_path / "c.jsonl")


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(fewstep("cases", "check", tmp_path / "c.parquet"), "pip install 'fewstep[data]'")


# ---- bad input, through the whole program


def picture(folder: Path, name: str, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(folder / name)


BAD = {
    "torn last line": (b'{"prompt": "a boat"}\n{"prompt": "a bo', ["c.jsonl:2: torn or no JSON", "mend or remove"]),
    "mixed encodings": (
        b'{"prompt": "a"}\n{"prompt": "\xd6l"}\n',
        ["c.jsonl:2: byte 13", "is not UTF-8", "save the whole file as UTF-8"],
    ),
    "missing image": (b'{"prompt": "a", "image": "gone.png"}\n', ["c.jsonl:1: there is no picture", "relative to"]),
    "unreadable image": (
        b'{"prompt": "a", "image": "notes.png"}\n',
        ["c.jsonl:1", "no readable picture", "save it as"],
    ),
    "elongated image": (b'{"prompt": "a", "image": "strip.png"}\n', ["c.jsonl:1", "1 x 40000 px", "Crop or pad"]),
    "edit without image": (b'{"prompt": "a", "task": "edit"}\n', ["c.jsonl:1: an edit needs at least one picture"]),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["distill", "plan", "check", "convert"])
def test_bad_cases(
    name: str, command: str, recipe: dict[str, Any], tmp_path: Path, model_must_stay_unloaded: None
) -> None:
    content, expected = BAD[name]
    (tmp_path / "c.jsonl").write_bytes(content)
    (tmp_path / "notes.png").write_text("no picture")
    picture(tmp_path, "strip.png", (1, 40_000))
    recipe["data"]["t2i"] = [{"source": str(tmp_path / "c.jsonl")}]
    run = {
        "distill": ("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run"),
        "plan": ("cases", "plan", write_recipe(recipe, tmp_path), "--out", tmp_path / "run"),
        "check": ("cases", "check", tmp_path / "c.jsonl"),
        "convert": ("cases", "convert", tmp_path / "c.jsonl", "--to", tmp_path / "d.jsonl"),
    }[command]
    refused(fewstep(*run), *expected)
    assert not (tmp_path / "d.jsonl").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "data.category_weights.t2i={sea: 1}",
            ["data.category_weights.t2i.sea: no source has this category", "landscape"],
        ),
        ("data.preset=E5", ["data.preset E5 needs portrait", "give a source this `category`"]),
        ("data.category_weights.t2i={landscape: 0}", ["sum to 0", "give at least one of them a share"]),
        ("data.t2i.0.weight=0", ["weights of the sources sum to 0"]),
        ("tasks=[{until: 3, t2i: 1, edit: 1}, {until: 2, t2i: 1, edit: 0}, {t2i: 0, edit: 1}]", ["runs forwards"]),
        ("tasks=[{until: 9, t2i: 1, edit: 1}, {t2i: 1, edit: 0}]", ["run.iterations is 4", "never reached"]),
        ("tasks={t2i: 0, edit: 0}", ["leave nothing to learn", "5:5"]),
    ],
)
@pytest.mark.parametrize("command", [("distill",), ("cases", "plan")])
def test_bad_compositions(
    override: str,
    expected: list[str],
    command: tuple[str, ...],
    recipe: dict[str, Any],
    tmp_path: Path,
    model_must_stay_unloaded: None,
) -> None:
    refused(fewstep(*command, write_recipe(recipe, tmp_path), "--out", tmp_path / "run", "--set", override), *expected)


def test_an_archive_that_leads_elsewhere(
    recipe: dict[str, Any], tmp_path: Path, model_must_stay_unloaded: None
) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        info = tarfile.TarInfo("../../evil.png")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    recipe["data"]["t2i"] = [{"source": str(tmp_path / "s.tar")}]
    refused(
        fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "runs" / "a"),
        "evil.png",
        "leads out of the",
    )
    assert not list(tmp_path.rglob("evil.png"))


def test_checking_does_not_wait_for_torch() -> None:
    code = "import sys, fewstep.data.check, fewstep.data.convert; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
