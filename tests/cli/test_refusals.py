"""Bad input at the command line: one clear message, exit code 2, no traceback, nothing half-written."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.backbones.testing import tiny_qwen_image
from fewstep.pocket.build import TEACHER
from fewstep.runtime import device
from tests.cli.command_line import fewstep, refused, write_recipe

LONG = "x" * 300  # no file system has names of more than 255 bytes


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "check", LONG),
        ("bench", "rank", LONG, LONG),
        ("bench", "report", LONG, "--to", "report"),
        ("bench", "measure", LONG),
        ("bench", "adopt", LONG, "--suite", "mini-t2i", "--to", "gallery"),
        ("cases", "check", f"{LONG}.jsonl"),
        ("judge", "run", LONG, "--judge", f"{LONG}.toml"),
        ("judge", "protocols", f"{LONG}.yaml"),
        ("recipe", "show", f"{LONG}.yaml"),
        ("study", "plan", LONG),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_name_that_no_file_can_have(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(fewstep(*words), "xxx")


def test_a_command_that_answers_has_no_answer_for_such_a_name() -> None:
    result = fewstep("bench", "compare", LONG, LONG)
    assert result.exit_code == 3
    assert "Traceback" not in result.output
    assert "File name too long" in " ".join(result.output.split())


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


@pytest.fixture
def copied(teacher: Path, tmp_path: Path) -> Path:
    """A model to break."""
    return Path(shutil.copytree(teacher, tmp_path / "model"))


def missing(folder: Path) -> list[str]:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    return ["vae/diffusion_pytorch_model.safetensors is missing", "download it again"]


def half(folder: Path) -> list[str]:
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return ["transformer/diffusion_pytorch_model.safetensors is torn", "download it again"]


def pickled(folder: Path) -> list[str]:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").rename(folder / "transformer" / "model.bin")
    return ["only pickled weights (model.bin)", "can run code when opened", "safe_serialization=True"]


def half_encoder(folder: Path) -> list[str]:
    file = folder / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return ["text_encoder/model.safetensors is torn", "download it again"]


def change(file: Path, changed: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(changed(load_file(file)), file, metadata={"format": "pt"})


def without_tensors(folder: Path) -> list[str]:
    """transformers would put random numbers in their place."""
    file = folder / "text_encoder" / "model.safetensors"
    change(file, lambda held: {name: value for name, value in held.items() if "layers.0.mlp" not in name})
    return ["text_encoder are not those of its model", "random numbers", "layers.0.mlp.down_proj.weight"]


def scaled_fp8(folder: Path) -> list[str]:
    def scaled(held: dict[str, Tensor]) -> dict[str, Tensor]:
        eights = {name: value.to(torch.float8_e4m3fn) for name, value in held.items() if value.ndim == 2}
        return held | eights | {f"{name.removesuffix('weight')}scale_weight": torch.tensor(1.0) for name in eights}

    change(folder / "transformer" / "diffusion_pytorch_model.safetensors", scaled)
    return ["transformer holds scaled fp8 weights", "scale_weight", "release of this model in bf16"]


def unknown(folder: Path) -> list[str]:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return ["StableDiffusionPipeline", "fewstep knows", "QwenImage21Pipeline", "Flux2KleinPipeline"]


BROKEN = {
    "distill": [missing, half, half_encoder, pickled, unknown, without_tensors, scaled_fp8],
    "encode": [missing, half_encoder, unknown, without_tensors],  # the transformer's weights are none of its business
    "doctor": [missing, half, half_encoder, pickled, unknown, without_tensors, scaled_fp8],
    "sample": [missing, half, half_encoder, pickled, unknown, without_tensors, scaled_fp8],
    "generate": [without_tensors, scaled_fp8],
    "serve": [without_tensors, scaled_fp8],
}


@pytest.mark.parametrize(("command", "broken"), [(name, each) for name, all_of in BROKEN.items() for each in all_of])
def test_a_model_that_cannot_be_used(
    command: str,
    broken: Callable[[Path], list[str]],
    recipe: dict[str, Any],
    copied: Path,
    tmp_path: Path,
    model_must_stay_unloaded: None,
) -> None:
    words = broken(copied)
    file, run = write_recipe(recipe | {"model": str(copied)}, tmp_path), ("--out", tmp_path / "runs" / "a")
    asked = {
        "distill": ("distill", file, *run),
        "encode": ("encode", file, *run),
        "doctor": ("doctor", copied),
        "sample": ("sample", copied, "-p", "a", "--out", tmp_path / "a.png"),
        "generate": ("generate", copied, "--suite", "pocket-t2i@2", "--to", tmp_path / "g"),
        "serve": ("serve", copied, "--port", "0"),
    }
    refused(fewstep(*asked[command]), *words)
    assert not any((tmp_path / name).exists() for name in ("a.png", "g", "runs"))


@pytest.mark.parametrize("command", ["distill", "encode"])
def test_a_hub_id_without_network(
    command: str, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    file = write_recipe(recipe | {"model": "someone/no-such-model"}, tmp_path)
    refused(fewstep(command, file, "--out", tmp_path / "runs" / "a"), "someone/no-such-model", "give a local folder")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": [80, 64]}, ["size: qwen-image-2.1 takes sides that are multiples of 32 px", "nearest is 64 x 64"]),
        ({"case": {"height": 64, "width": 90}}, ["t2i.jsonl:1", "not 64 x 90; the nearest is 64 x 96"]),
        ({"references": 11}, ["edit.jsonl:1", "takes at most 10 references, not 11"]),
        (
            {"sizes": [{"size": [64, 64]}, {"size": [64, 72]}]},
            ["data.sizes.t2i.1.size: qwen-image-2.1 takes sides that are multiples of 32 px", "nearest is 64 x 64"],
        ),
        ({"sizes": [{"size": [64, 64], "weight": 0}]}, ["data.sizes.t2i.0.weight should be greater than"]),
        ({"picture": (1024, 64)}, ["edit.jsonl:1: an edit of a reference of 64 x 1024 px would have no size left"]),
        ({"picture": (1300, 65)}, ["edit.jsonl:1:", "1300 x 65 px; sides may differ 16-fold at most"]),
    ],
    ids=[
        "size of the recipe",
        "size of a case",
        "references",
        "size of prompts",
        "weight of a size",
        "oblong",
        "too oblong",
    ],
)
def test_what_the_family_does_not_take_is_refused_before_it_is_loaded(
    change: dict[str, Any],
    words: list[str],
    recipe: dict[str, Any],
    tmp_path: Path,
    model_must_stay_unloaded: None,
) -> None:
    if "case" in change:
        (tmp_path / "t2i.jsonl").write_text(json.dumps({"prompt": "a house"} | change["case"]) + "\n")
    if "references" in change:
        record = {"prompt": "all of them", "reference_images": ["source.png"] * change["references"]}
        (tmp_path / "edit.jsonl").write_text(json.dumps(record) + "\n")
    if "picture" in change:
        Image.new("RGB", change["picture"]).save(tmp_path / "source.png")
    recipe |= {"size": change.get("size", recipe["size"])}
    recipe["data"]["sizes"] = {"t2i": change.get("sizes", [])}
    for command in ("distill", "encode"):
        refused(fewstep(command, write_recipe(recipe, tmp_path), "--out", tmp_path / "runs" / "a"), *words)


def test_edits_of_a_text_to_image_model(recipe: dict[str, Any], tmp_path: Path, model_must_stay_unloaded: None) -> None:
    tiny_qwen_image.qwen_image_pipeline().save_pretrained(tmp_path / "t2i-model")
    file = write_recipe(recipe | {"model": str(tmp_path / "t2i-model")}, tmp_path)
    refused(
        fewstep("distill", file, "--out", tmp_path / "runs" / "a"), "draws from text alone", "QwenImageEditPlusPipeline"
    )


@pytest.mark.parametrize("command", ["distill", "encode"])
def test_bf16_on_a_cpu_that_does_not_know_it(
    command: str, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "bf16_against_fp32", lambda: 3.7)
    recipe["run"] |= {"precision": "bf16"}
    refused(
        fewstep(command, write_recipe(recipe, tmp_path), "--out", tmp_path / "run"),
        "run.precision is bf16, which this CPU does not compute",
        "3.7 times as long as in fp32. Set run.precision: auto or fp32",
    )
    assert not (tmp_path / "run").exists()


def test_a_torn_case_is_named_by_its_line(recipe: dict[str, Any], tmp_path: Path) -> None:
    with (tmp_path / "t2i.jsonl").open("a") as file:
        file.write('{"prompt": "torn')
    refused(fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run"), "t2i.jsonl:5")
    refused(fewstep("cases", "check", tmp_path / "t2i.jsonl"), "t2i.jsonl:5")


def test_a_missing_picture_is_named(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "source.png").unlink()
    refused(fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run"), "source.png", "edit.jsonl:1")


def test_an_output_folder_with_other_things_in_it(recipe: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    refused(fewstep("distill", write_recipe(recipe, tmp_path), "--out", out), "thesis.tex", "--out")
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


@pytest.mark.parametrize("start", ["pocket", str(TEACHER)])
def test_a_teacher_of_another_world_to_go_on_from(tmp_path: Path, start: str) -> None:
    """Its tokenizer would read the new world's captions as bytes, after hours of rendering."""
    out = tmp_path / "work"
    refused(fewstep("pocket", "train", "--world", "harder", "--start", start, "--out", out), "not those of the harder")
    assert not out.exists()


def test_compiled_blocks_where_there_is_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++-99")
    out = tmp_path / "work"
    refused(fewstep("pocket", "train", "--compile", "--out", out), "--compile is given", "leave it out")
    assert not out.exists()


def test_minutes_below_none(tmp_path: Path) -> None:
    out = tmp_path / "work"
    refused(fewstep("pocket", "train", "--minutes-teacher", "-1", "--out", out), "--minutes-teacher")
    assert not out.exists()


def test_an_unknown_kind_of_specialist(tmp_path: Path) -> None:
    out = tmp_path / "lora"
    refused(fewstep("pocket", "specialise", "landscape", "--out", out), "landscape", "portrait, text, edit")
    assert not out.exists()


def test_a_tracker_that_is_not_installed(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_must_stay_unloaded: None
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    file, out = write_recipe(recipe | {"track": ["tensorboard"]}, tmp_path), tmp_path / "run"
    refused(
        fewstep("distill", file, "--out", out), "tensorboard is not installed", "pip install 'fewstep[tensorboard]'"
    )
    assert not out.exists()
