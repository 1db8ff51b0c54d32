"""`fewstep export` and `fewstep serve` as they are typed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.cli.command_line import fewstep, write_recipe


@pytest.fixture
def run(recipe: dict[str, Any], tmp_path: Path) -> Path:
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run", "--set", "run.iterations=2")
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def refused(word: str, *words: str | Path) -> None:
    result = fewstep(*words)
    assert result.exit_code == 2, result.output
    assert word in " ".join(result.output.split()), result.output


def test_a_lora_is_exported_cut_down_and_verified(run: Path, tmp_path: Path) -> None:
    to = tmp_path / "lora"
    result = fewstep("export", run, "--to", to, "--form", "adapter", "--lora", "both", "--svd-rank", 1, "--verify")
    assert result.exit_code == 0, result.output
    assert "of the update's length left out" in result.output
    assert "of the run's own" in result.output
    assert (to / "comfyui" / "workflow-edit.json").is_file()
    factors = load_file(to / "pytorch_lora_weights.safetensors")
    assert {min(value.shape) for value in factors.values()} == {1}
    before = sorted(to.rglob("*"))
    refused("not an empty folder", "export", run, "--to", to)
    assert sorted(to.rglob("*")) == before

    (tmp_path / ".whole.1.tmp" / "transformer").mkdir(parents=True)  # as a kill leaves it
    whole = fewstep("export", run, "--to", tmp_path / "whole", "--single-file")
    assert ".whole.1.tmp" in "".join(whole.output.split())
    assert ".whole.1.tmp (0.0 GB), left by an export" in fewstep("doctor", tmp_path / "whole").output
    assert whole.exit_code == 0, whole.output
    assert "exporting" in whole.output
    assert "iteration-000002" in "".join(whole.output.split())
    for exported in (to, tmp_path / "whole"):
        assert "| Checkpoint | iteration 2 of its run, the averaged student |" in (exported / "README.md").read_text()
    assert list((tmp_path / "whole" / "comfyui").glob("workflow-edit-single-file.json"))

    bad = tmp_path / "bad"
    refused("merged or adapter", "export", run, "--to", bad, "--form", "gguf")
    refused("diffusers, comfyui, both", "export", run, "--to", bad, "--lora", "a1111")
    refused("shrinks nothing", "export", run, "--to", bad, "--svd-rank", 99)
    refused("writes none", "export", run, "--to", bad, "--form", "adapter", "--single-file")
    average = run / "checkpoints" / "iteration-000002" / "student_average.safetensors"
    sound = average.read_bytes()
    average.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    refused("is not what was written", "export", run, "--to", bad, "--checkpoint", "last")
    average.write_bytes(sound)
    refused("bf16 or fp32", "export", run, "--to", bad, "--dtype", "int8")
    assert not bad.exists()
    refused("no sample_sigmas", "serve", recipe_model(run), "--port", 0)
    refused("no model at", "serve", tmp_path / "nowhere", "--port", 0)


def test_the_student_of_any_save_is_exported(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Also where its checkpoint is gone."""
    run, often = tmp_path / "run", ("run.iterations=3", "run.save_every_iterations=1", "run.keep_checkpoints=1")
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", run, *(w for s in often for w in ("--set", s)))
    assert result.exit_code == 0, result.output
    assert [place.name for place in (run / "checkpoints").iterdir()] == ["iteration-000003"]
    result = fewstep("export", run, "--to", tmp_path / "lora", "--form", "adapter", "--checkpoint", 2, "--verify")
    assert result.exit_code == 0, result.output
    assert "exporting the averaged student of iteration 2," in " ".join(result.output.split())
    assert (
        "| Checkpoint | iteration 2 of its run, the averaged student |" in (tmp_path / "lora" / "README.md").read_text()
    )
    written = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    held = load_file(run / "students" / "iteration-000002.safetensors")
    assert sum(float(value.square().sum()) for value in written.values()) > 0
    assert len(written) == len(held)
    raw = tmp_path / "raw"
    result = fewstep("export", run, "--to", raw, "--form", "adapter", "--weights", "raw", "--checkpoint", 3, "--verify")
    assert result.exit_code == 0, result.output
    assert "exporting the raw student of iteration 3," in " ".join(result.output.split())
    assert "| Checkpoint | iteration 3 of its run, the raw student |" in (raw / "README.md").read_text()
    own = load_file(run / "checkpoints" / "iteration-000003" / "student.safetensors")
    key = next(name for name in own if ".lora_A." in name)
    assert load_file(raw / "pytorch_lora_weights.safetensors")[f"transformer.{key}"].equal(own[key])
    no = ("export", run, "--to", tmp_path / "no")
    refused(
        "no whole checkpoint of iteration 2; it has: 3. Of 2 the averaged student",
        *no,
        "--weights",
        "raw",
        "--checkpoint",
        2,
    )
    refused("average or raw", *no, "--weights", "ema")
    refused("no student of iteration 4; it has: 1, 2, 3", "export", run, "--to", tmp_path / "no", "--checkpoint", 4)


def recipe_model(run: Path) -> str:
    return str(yaml.safe_load((run / "recipe.yaml").read_text())["model"])


@pytest.mark.parametrize("what", ["nowhere", "torn"])
def test_a_start_that_cannot_be_read(recipe: dict[str, Any], tmp_path: Path, what: str) -> None:
    """Before anything is made."""
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    recipe["student"] |= {"init_from": str(tmp_path / f"{what}.safetensors")}
    refused("student.init_from", "distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
