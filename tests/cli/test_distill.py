"""The main job through the command line, on a tiny teacher of the real classes: run, resume, export, sample."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fewstep.backbones.families import load_backbone
from fewstep.data.pictures import upright_size
from fewstep.run.recipe import load_recipe
from tests.cli.command_line import fewstep, refused, write_recipe
from tests.train.runs import lines


def test_a_whole_run_and_what_it_leaves(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", run)
    assert result.exit_code == 0, result.output
    trained = [line for line in lines(run) if line["phase"] == "distil"]
    assert [line["iteration"] for line in trained] == [0, 1, 2, 3]
    assert trained[-1]["tasks"] == {"edit": 4, "t2i": 4}  # the ratio 5:5, exactly
    by_task = {task: [line["student_step"] for line in trained if line["task"] == task] for task in ("t2i", "edit")}
    assert all(len(set(steps)) == 2 for steps in by_task.values())  # no step comes twice before all have come
    assert (run / "samples" / "iteration-000000.png").is_file()
    index = json.loads((run / "student" / "model_index.json").read_text())
    assert index["sample_sigmas"] == [1.0, 0.9, 0.75, 0.5]

    again = fewstep("distill", write_recipe(recipe, tmp_path), "--out", run)
    assert again.exit_code == 0, again.output
    assert [line for line in lines(run) if line["phase"] == "distil"] == trained

    other = fewstep("distill", write_recipe(recipe, tmp_path), "--out", run, "--set", "student.adapter.rank=4")
    assert other.exit_code == 2
    assert "student.adapter.rank: 2 -> 4" in other.output

    to = tmp_path / "student"
    exported = fewstep("export", run, "--to", to, "--checkpoint", "2", "--dtype", "fp32", "--verify")
    assert exported.exit_code == 0, exported.output
    assert exported.output.count("4 network calls") == 2  # T2I and edit, counted in a fresh process

    drawn = fewstep("sample", to, "-p", "a house", "--out", tmp_path / "a.png")
    assert drawn.exit_code == 0, drawn.output
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (64, 64)
    edited = fewstep("sample", to, "-p", "make it night", "-i", tmp_path / "a.png", "--out", tmp_path / "b.png")
    assert edited.exit_code == 0, edited.output
    wrong = fewstep("sample", to, "-p", "a house", "--steps", "9", "--out", tmp_path / "c.png")
    assert wrong.exit_code == 2
    assert "4 steps" in wrong.output

    mistaken = fewstep("sample", run, "-p", "a house", "--out", tmp_path / "c.png")
    assert mistaken.exit_code == 2
    assert f"{run} is a run; its student is {run / 'student'}" in " ".join(mistaken.output.split())
    for words in (("distill", write_recipe(recipe, tmp_path), "--out", to), ("export", to, "--to", tmp_path / "x")):
        mistaken = fewstep(*words)
        assert mistaken.exit_code == 2
        assert "is a model or a student, and no run" in " ".join(mistaken.output.split())
    unused = fewstep(
        "distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "y", "--set", "run.iterations=2",
        "--set", "teachers.named.mine.adapter=mine.safetensors",
    )  # fmt: skip
    assert unused.exit_code == 0, unused.output
    assert "teachers.named.mine does not teach: preset base-only gives it no weight" in " ".join(unused.output.split())


def test_memory_settings_of_auto_are_told_and_stay_with_the_run(recipe: dict[str, Any], tmp_path: Path) -> None:
    """On a CPU: the declared ones. The word itself is not kept, so later starts ask nothing."""
    small = {"iterations": 2, "save_every_iterations": 1, "sample_every_iterations": 0}
    run, auto = tmp_path / "runs" / "tiny", {"gradient_checkpointing": "auto"}
    file = write_recipe(recipe | {"run": recipe["run"] | small | auto}, tmp_path)
    begun = fewstep("distill", file, "--out", run)
    assert begun.exit_code == 0, begun.output
    assert "the backward pass computes whole blocks again" in begun.output
    held = load_recipe(run / "recipe.yaml")
    assert held.run.gradient_checkpointing == {"t2i": "full", "edit": "full"}
    again = fewstep("distill", file, "--out", run)
    assert again.exit_code == 0, again.output
    assert "computes whole blocks again" not in again.output
    assert load_recipe(run / "recipe.yaml") == held


def test_text_encoder_and_transformer_are_never_in_memory_together(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty store: the encoder comes and goes before the transformer. A full one: no text encoder at all, and the
    same run to the last bit."""
    held: list[weakref.ref[Any]] = []
    seen: list[tuple[set[str], int]] = []

    def noting(*given: Any, **named: Any) -> Any:
        backbone = load_backbone(*given, **named)
        modules = {name: m for name, m in backbone.pipeline.components.items() if isinstance(m, torch.nn.Module)}  # type: ignore[attr-defined]
        seen.append((set(modules), sum(ref() is not None for ref in held)))
        held.extend(map(weakref.ref, modules.values()))
        return backbone

    monkeypatch.setattr("fewstep.run.encoding.load_backbone", noting)
    monkeypatch.setattr("fewstep.run.launch.load_backbone", noting)
    file = write_recipe(recipe | {"store": str(tmp_path / "store")}, tmp_path)
    first, second = tmp_path / "runs" / "first", tmp_path / "runs" / "second"
    assert fewstep("distill", file, "--out", first).exit_code == 0
    assert seen == [({"text_encoder", "vae"}, 0), ({"vae", "transformer"}, 0)]
    seen.clear()
    assert fewstep("encode", file, "--out", second).exit_code == 0
    assert seen == [], "everything is there"
    held.clear()
    assert fewstep("distill", file, "--out", second).exit_code == 0
    assert seen == [({"vae", "transformer"}, 0)]
    assert weights(first) == weights(second)
    assert lines(first) == lines(second)


def weights(run: Path) -> dict[str, bytes]:
    """The files of the last checkpoint."""
    return {file.name: file.read_bytes() for file in (run / "checkpoints" / "iteration-000004").glob("*.safetensors")}


@pytest.mark.parametrize("held", ["int8", "fp8-w8a8"])
def test_a_run_over_a_rounded_base_exports_for_the_whole_base(
    held: str, recipe: dict[str, Any], teacher: Path, tmp_path: Path
) -> None:
    recipe["run"] |= {"base_weights": held}
    run, student = tmp_path / "runs" / "tiny", tmp_path / "student"
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", run)
    assert result.exit_code == 0, result.output
    assert ("whose products in 8 bits are for GPUs" in " ".join(result.output.split())) == (held == "fp8-w8a8")
    exported = fewstep("export", run, "--to", student, "--dtype", "fp32", "--verify")
    assert exported.exit_code == 0, exported.output
    name = Path("transformer", "diffusion_pytorch_model.safetensors")
    base, merged = load_file(teacher / name), load_file(student / name)
    assert {key: w.dtype for key, w in merged.items()} == {key: w.dtype for key, w in base.items()}
    changed = {key for key in base if not base[key].equal(merged[key])}
    assert changed
    assert all("blocks." in key for key in changed)
    for key in changed:  # by the student's LoRA of rank 2 alone: what is rounded off has every rank
        update = torch.linalg.svdvals(merged[key] - base[key])
        assert update[1] > 1e-5 > update[2], key


def test_a_run_over_a_base_in_fp8_goes_on_as_if_it_had_not_stopped(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Its base is rounded anew, to the same numbers. With what it holds as another base, a run does not go on."""
    recipe["run"] |= {"base_weights": "fp8-w8a8"}
    file, run = write_recipe(recipe, tmp_path), tmp_path / "runs" / "tiny"
    assert fewstep("distill", file, "--out", run).exit_code == 0
    once = weights(run)
    shutil.rmtree(run / "checkpoints" / "iteration-000004")
    shutil.rmtree(run / "student")
    refused = fewstep("distill", file, "--out", run, "--set", "run.base_weights=int8")
    assert refused.exit_code == 2
    assert "run.base_weights: fp8-w8a8 -> int8" in refused.output
    again = fewstep("distill", file, "--out", run)
    assert again.exit_code == 0, again.output
    assert weights(run) == once


def test_a_fork_goes_on_under_a_changed_recipe(recipe: dict[str, Any], tmp_path: Path) -> None:
    file, old, new = write_recipe(recipe, tmp_path), tmp_path / "runs" / "old", tmp_path / "runs" / "new"
    assert fewstep("distill", file, "--out", old).exit_code == 0
    change = ("--set", "run.iterations=6", "--set", "critic.updates=2")
    refused = fewstep("distill", file, "--out", old, *change)
    assert refused.exit_code == 2
    assert "critic.updates: 1 -> 2" in refused.output
    assert f"`fewstep distill RECIPE --fork {old}` goes on" in " ".join(refused.output.split())

    forked = fewstep("distill", file, "--out", new, "--fork", f"{old}@2", *change)
    assert forked.exit_code == 0, forked.output
    assert "critic.updates: 1 -> 2" in forked.output
    trained = [line for line in lines(new) if line["phase"] == "distil"]
    assert [line["iteration"] for line in trained] == list(range(6))
    assert trained[:2] == [line for line in lines(old) if line["phase"] == "distil"][:2]
    assert trained[-1]["tasks"] == {"edit": 6, "t2i": 6}
    assert (new / "student" / "model_index.json").is_file()
    assert fewstep("distill", file, "--out", new, "--fork", f"{old}@2", *change).exit_code == 0
    assert fewstep("distill", file, "--out", new, *change).exit_code == 0

    other = fewstep("distill", file, "--out", tmp_path / "runs" / "x", "--fork", old, "--set", "student.adapter.rank=4")
    assert other.exit_code == 2
    assert "student.init_from: LORA" in other.output
    assert not (tmp_path / "runs" / "x").exists()


def test_edits_of_several_shapes_are_trained_sampled_and_held_at_them(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Of two shapes, too few for batches of their own. And what becomes of such a run that an earlier version began."""
    run, edits = tmp_path / "runs" / "a", []
    for n, width in enumerate((64, 160, 64)):
        Image.new("RGB", (width, 64), "teal").save(tmp_path / f"{n}.png")
        edits.append({"id": f"e{n}", "prompt": f"make it night {n}", "reference_images": [f"{n}.png"]})
    (tmp_path / "edit.jsonl").write_text("".join(json.dumps(edit) + "\n" for edit in edits))
    recipe["run"] |= {"iterations": 3, "sample_every_iterations": 3}
    recipe["tasks"] = {"t2i": 0, "edit": 1}
    file = write_recipe(recipe, tmp_path)
    result = fewstep("distill", file, "--out", run)
    assert result.exit_code == 0, result.output
    assert "edits: 3 cases of 2 layouts, by size 64 x 64 (67%), 32 x 96 (33%); 3 have too few" in result.output
    drawn = {upright_size(picture, "") for picture in (run / "samples" / "pictures").glob("student-000003-*.png")}
    assert drawn == {(64, 64), (32, 96)}, "previews have the cases' shapes"
    sampled = (
        "sample",
        run / "student",
        "-p",
        "make it night",
        "--image",
        tmp_path / "1.png",
        "--out",
        tmp_path / "a.png",
    )
    assert fewstep(*sampled).exit_code == 0
    assert upright_size(tmp_path / "a.png", "") == (32, 96), "and so has what a student draws"

    held = json.loads((run / "cases.json").read_text())
    assert (held["order"], held["sizes"]["data.sizes.edit"]) == (2, "reference")
    other = fewstep("distill", file, "--out", run, "--set", "data.sizes.edit=recipe")
    refused(other, "with its cases at other sizes (data.sizes.edit: reference -> recipe): take that back", "--fork")
    (run / "cases.json").write_text(json.dumps({key: held[key] for key in ("identity", "cases")}))
    refused(fewstep("distill", file, "--out", run), "began under an earlier version", "several shapes", "--fork")


def test_killed_and_begun_again_it_ends_the_same(recipe: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(recipe, tmp_path)
    whole, torn = tmp_path / "whole" / "run", tmp_path / "torn" / "run"
    assert fewstep("distill", file, "--out", whole).exit_code == 0

    command = [sys.executable, "-m", "fewstep", "distill", file, "--out", str(torn)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (torn / "checkpoints" / "iteration-000002" / "COMPLETE").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    resumed = fewstep("distill", file, "--out", torn)
    assert resumed.exit_code == 0, resumed.output
    for name in ("student", "student_average", "critic", "student_optimiser", "critic_optimiser"):
        kept = [load_file(run / "checkpoints" / "iteration-000004" / f"{name}.safetensors") for run in (whole, torn)]
        assert kept[0].keys() == kept[1].keys()
        assert all(kept[0][key].equal(kept[1][key]) for key in kept[0]), name
    assert lines(whole) == lines(torn)
