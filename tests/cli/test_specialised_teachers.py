"""Specialised teachers through the command line: routed by task and category, and refused before anything is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewstep.backbones.stock import QwenImage21Transformer2DModel
from fewstep.backbones.testing import tiny_qwen_image_21
from tests.cli.command_line import fewstep, refused, write_recipe


def lora(path: Path, module: str = "transformer_blocks.{}.attn.to_v") -> str:
    tensors = {}
    for block in range(2):
        name = "transformer." + module.format(block)
        tensors[f"{name}.lora_A.weight"] = torch.full((2, 64), 0.1)
        tensors[f"{name}.lora_B.weight"] = torch.full((64, 2), 0.1)
    save_file(tensors, path)
    return str(path)


def trained(run: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in records if line["phase"] == "distil"]


def test_text_to_image_to_one_teacher_and_edits_to_another(recipe: dict[str, Any], tmp_path: Path) -> None:
    """As with Qwen-Image-2512 and Qwen-Image-Edit-2511: two models, each with its own guidance, and a LoRA over one of
    them for some of its samples."""
    editor = tmp_path / "editor"
    tiny_qwen_image_21.qwen_image_21_pipeline(3).save_pretrained(editor)
    guided = {"edit": {"scale": 2.0, "keep_norm": True, "negative": "blurred"}}
    recipe["teachers"] = {
        "preset": "last-step-only",
        "ramp": 0,
        "named": {
            "editor": {
                "model": str(editor),
                "tasks": ["edit"],
                "anchor": True,
                "place": "offloaded",
                "guidance": guided,
            },
            "houses": {"adapter": lora(tmp_path / "houses.safetensors"), "tasks": ["t2i"], "categories": ["landscape"]},
        },
        "watch": {"latents": True},
    }
    recipe["student"]["steps"] = 2
    run = tmp_path / "run"
    result = fewstep("distill", write_recipe(recipe, tmp_path), "--out", run)
    assert result.exit_code == 0, result.output
    for line in trained(run):
        names = set(line["teacher_forwards"])
        if line["task"] == "edit":
            assert names == {"editor"}
            assert line["teacher_forwards"]["editor"] in (1, 2)  # two where the branches differ in length
        else:
            assert names == ({"base", "houses"} if line["student_step"] == 1 else {"base"})
        assert ("pull/houses" in line) == ("houses" in names)
        assert "saturation" in line
    assert {line["task"] for line in trained(run)} == {"t2i", "edit"}


# ---- refused before anything is loaded


def with_teacher(recipe: dict[str, Any], teacher: dict[str, Any], **more: Any) -> dict[str, Any]:
    return recipe | {"teachers": {"preset": "step-wise", "named": {"mine": teacher}, **more}}


def test_a_lora_that_is_none_of_this_base(recipe: dict[str, Any], tmp_path: Path) -> None:
    foreign = lora(tmp_path / "flux.safetensors", "double_blocks.{}.img_attn.qkv")
    file = write_recipe(with_teacher(recipe, {"adapter": foreign}), tmp_path)
    result = fewstep("distill", file, "--out", tmp_path / "run")
    refused(result, "teachers.named.mine.adapter", "double_blocks.0.img_attn.qkv", "2 of its 2 modules")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("fault", ["absent", "torn", "pickled", "narrow"])
def test_loras_that_cannot_be(fault: str, recipe: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    if fault == "torn":
        whole = Path(lora(path)).read_bytes()
        path.write_bytes(whole[:-100])
    elif fault == "pickled":
        torch.save({}, path)
    elif fault == "narrow":
        lora(path, "transformer_blocks.{}.img_mlp.out")
    reason = {"absent": "not there", "torn": "half a download", "pickled": "pickle", "narrow": "another base"}[fault]
    file = write_recipe(with_teacher(recipe, {"adapter": str(path)}), tmp_path)
    refused(fewstep("distill", file, "--out", tmp_path / "run"), "teachers.named.mine.adapter", reason)
    assert not (tmp_path / "run").exists()


def model_folder(teacher: Path, to: Path, family: str, **config: Any) -> str:
    shutil.copytree(teacher, to)
    index = json.loads((to / "model_index.json").read_text())
    (to / "model_index.json").write_text(json.dumps(index | {"_class_name": family}))
    if config:
        shutil.rmtree(to / "transformer")
        whole = QwenImage21Transformer2DModel.load_config(teacher / "transformer")
        QwenImage21Transformer2DModel.from_config({**whole, **config}).save_pretrained(to / "transformer")
    return str(to)


def test_a_teacher_of_another_family_or_shape(recipe: dict[str, Any], teacher: Path, tmp_path: Path) -> None:
    flux = model_folder(teacher, tmp_path / "flux", "FluxPipeline")
    small = model_folder(teacher, tmp_path / "small", "QwenImage21Pipeline", num_layers=1)
    for model, reason in ((flux, "FluxPipeline"), (small, "tensors differ"), (str(tmp_path / "gone"), "no model at")):
        file = write_recipe(with_teacher(recipe, {"model": model}), tmp_path)
        refused(fewstep("distill", file, "--out", tmp_path / "run"), "teachers.named.mine.model", reason)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"lam_max": 1.5}, ["lie in [0, 1]"]),
        ({"rows": [0, 0, 2, 1]}, ["lie in [0, 1]"]),
        ({"rows": {"other": [0, 0, 0, 1]}}, ["other, unknown here", "mine"]),
        ({"lam_max": {"other": 0.5}}, ["other, unknown here", "mine"]),
        ({"preset": "constant", "lam_max": 1.0}, ["specialised-alone"]),
        ({"preset": "dynamic"}, ["teachers.preset"]),
        ({"adaptive": {"start": 0.1, "least": 0.2}}, ["least", "start"]),
        ({"adaptive": {"lower_by": 1.5}}, ["teachers.adaptive.lower_by", "less than 1"]),
        ({"watch": {"answer": "shout"}}, ["teachers.watch.answer"]),
        ({"watch": {"bund": 2}}, ["did you mean teachers.watch.bound"]),
        ({"named": {"mine": {"adapter": "x", "place": "offloaded"}}}, ["offloaded is for a model"]),
        (
            {"preset": "constant", "named": {"a": {"adapter": "x"}, "b": {"adapter": "y"}}, "lam_max": 0.7},
            ["sum to 1.4", "a, b"],
        ),
    ],
)
def test_plans_that_cannot_be(more: dict[str, Any], words: list[str], recipe: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(with_teacher(recipe, {"adapter": "x.safetensors"}, **more), tmp_path)
    refused(fewstep("distill", file, "--out", tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_extra_losses_that_leave_nothing_to_match(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe |= {"objective": {"first_step_anchor": {}}}
    recipe["student"]["steps"] = 1
    refused(fewstep("distill", write_recipe(recipe, tmp_path), "--out", tmp_path / "run"), "first_step_anchor.detach")


def test_the_schema_describes_what_is_off_unless_given() -> None:
    schema = fewstep("recipe", "schema").output
    keys = ("objective.first_step_anchor.weight", "teachers.watch.bound", "teachers.adaptive.bound")
    assert all(key in schema for key in (*keys, "teachers.named.<name>.place", "objective.segment_guidance"))
