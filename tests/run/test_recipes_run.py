"""Every shipped recipe for a real model, as it is, on a tiny twin of that model's stock classes: encoded, distilled,
exported and drawn with. Only what a declared overlay shrinks differs from what a user runs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from fewstep.backbones import edit_sizes
from fewstep.backbones.families import model_shapes
from fewstep.backbones.folder import read_index
from fewstep.backbones.stock import pipeline_qwenimage_edit_plus
from fewstep.backbones.testing import (
    tiny_flux2_klein,
    tiny_flux3,
    tiny_longcat_image,
    tiny_qwen_image,
    tiny_qwen_image_21,
    tiny_z_image,
)
from fewstep.run.recipe import (
    flat_keys,
    load_recipe,
    shipped_recipes,
)
from fewstep.runtime.cpu_bfloat16 import fast_bfloat16
from fewstep.runtime.task import TASKS
from fewstep.sample.origin import origin_of
from tests.cli.command_line import fewstep

# What makes any recipe a matter of seconds. Learning rates, ranks, steps, guidance, modes and precision stay.
SHRUNK = {
    "size": "[64, 64]",
    "data.sizes.t2i": "[{size: [64, 64], weight: 2}, {size: [32, 96]}]",
    "run.iterations": 2,
    "run.batch": 2,  # at most
    "run.save_every_iterations": 1,
    "run.sample_every_iterations": 2,
    "critic.warmup_iterations": 1,
    "run.examine_every_iterations": 2,
    "examine.t2i": "cases/t2i.jsonl",
    "examine.edit": "cases/edit.jsonl",
    "examine.prompts": 1,
    "examine.edits": 1,
} | ({} if fast_bfloat16() or torch.cuda.is_available() else {"run.precision": "fp32"})


@dataclass(frozen=True)
class Twin:
    """
    Args:
        model: the base in small.
        teachers: further models by name.
        lora: whether the recipe asks for a user's LoRA.
        swapped: blocks in host memory, of a recipe that has some.
    """

    model: Callable[[], Any]
    teachers: Sequence[tuple[str, Callable[[], Any]]] = ()
    lora: bool = False
    swapped: int = 0


def deeper(pipeline: Any) -> Any:
    """The pipeline with four blocks, of which some can be swapped."""
    stock = type(pipeline.transformer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        pipeline.register_modules(
            transformer=stock.from_config({**pipeline.transformer.config, "num_layers": 4}).eval()
        )
    return pipeline


TWINS = {
    "qwen-image-2.1": Twin(tiny_qwen_image_21.qwen_image_21_pipeline),
    "qwen-image-2.1-48gb": Twin(tiny_qwen_image_21.qwen_image_21_pipeline),
    "qwen-image-2.1-24gb": Twin(lambda: deeper(tiny_qwen_image_21.qwen_image_21_pipeline()), swapped=3),
    "qwen-image-2.1-full": Twin(tiny_qwen_image_21.qwen_image_21_pipeline),
    "qwen-image-unified": Twin(
        tiny_qwen_image.qwen_image_edit_pipeline, [("drawing", lambda: tiny_qwen_image.qwen_image_pipeline(seed=1))]
    ),
    "qwen-image-unified-48gb": Twin(
        lambda: deeper(tiny_qwen_image.qwen_image_edit_pipeline()),
        [("drawing", lambda: deeper(tiny_qwen_image.qwen_image_pipeline(seed=1)))],
        swapped=3,
    ),
    "flux2-klein-24gb": Twin(tiny_flux2_klein.flux2_klein_pipeline),
    "klein-9b": Twin(tiny_flux2_klein.flux2_klein_pipeline),
    "flux3-klein": Twin(tiny_flux3.flux3_pipeline),
    "flux3-klein-24gb": Twin(tiny_flux3.flux3_pipeline),
    "z-image": Twin(tiny_z_image.z_image_pipeline),
    "longcat-unified": Twin(
        tiny_longcat_image.longcat_image_edit_pipeline,
        [("drawing", lambda: tiny_longcat_image.longcat_image_pipeline(seed=1))],
    ),
    "my-lora": Twin(tiny_qwen_image_21.qwen_image_21_pipeline, lora=True),
}

T2I_ALONE = ("my-lora", "z-image")
PREVIEWED = ("my-lora", "qwen-image-2.1", "flux2-klein-24gb")  # a teacher's picture takes 80 to 100 forwards


def test_no_recipe_is_left_out() -> None:
    embedded = {"pocket", "pocket-harder"}
    assert set(TWINS) | embedded == set(shipped_recipes()), "these run as themselves, in tests/cli and tests/pocket"


@pytest.fixture(autouse=True)
def small_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edit pipelines of the 20 B and of LongCat-Image bring references to areas of their own."""
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 64 * 64)
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 64 * 64)
    monkeypatch.setattr(edit_sizes, "LONGCAT_AREA", 64 * 64)


@pytest.fixture
def cases(tmp_path: Path) -> None:
    """Where the shipped recipes look for them, from the folder that they are run in."""
    (tmp_path / "cases").mkdir()
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "cases" / "source.png")
    Image.new("RGB", (160, 80), "teal").save(tmp_path / "cases" / "wide.png")
    t2i = [{"prompt": f"a red house number {i}", "category": "landscape"} for i in range(3)]
    pictures = ("source.png", "wide.png")
    edit = [
        {"prompt": f"make it night {i}", "category": "scene", "reference_images": [picture]}
        for i, picture in enumerate(pictures)
    ]
    for name, records in (("t2i", t2i), ("edit", edit)):
        (tmp_path / "cases" / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def lora_of(model: Path, to: Path) -> None:
    """A user's LoRA: small updates of the attention's values, of rank 2, in diffusers' keys."""
    made = {}
    for module, (rows, columns) in model_shapes(model).linear_shapes.items():
        if module.endswith("attn.to_v"):
            made[f"transformer.{module}.lora_A.weight"] = torch.full((2, columns), 0.1)
            made[f"transformer.{module}.lora_B.weight"] = torch.full((rows, 2), 0.1)
    assert made
    save_file(made, to)


def overlay(name: str, folder: Path) -> list[str]:
    """--set options that put the twin in the model's place."""
    twin, sets = TWINS[name], dict(SHRUNK)
    if name not in PREVIEWED:
        sets["run.sample_every_iterations"] = 0
    sets["run.batch"] = min(2, load_recipe(name).run.batch)
    twin.model().save_pretrained(folder / "base")
    sets["model"] = folder / "base"
    for teacher, made in twin.teachers:
        made().save_pretrained(folder / teacher)
        sets[f"teachers.named.{teacher}.model"] = folder / teacher
    if twin.swapped:
        sets["run.blocks_to_swap"] = twin.swapped
    if twin.lora:
        lora_of(folder / "base", folder / "my-lora.safetensors")
    return [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.parametrize("name", TWINS)
def test_from_cases_to_a_picture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: None) -> None:
    monkeypatch.chdir(tmp_path)
    options = overlay(name, tmp_path)

    def done(*words: str | Path) -> str:
        result = fewstep(*words)
        assert result.exit_code == 0, result.output
        return result.output

    assert "encoded" in done("encode", name, *options)
    assert "encoded" not in done("distill", name, *options), "the store holds it all"
    run, recipe = tmp_path / "runs" / name, load_recipe(tmp_path / "runs" / name / "recipe.yaml")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["phase"] == "distil"]
    assert len(trained) == 2
    assert {line["task"] for line in trained} == ({"t2i"} if name in T2I_ALONE else {"t2i", "edit"})
    assert all(line["student_norm"] > 0 and line["student_skipped"] == 0 for line in trained)
    if name == "my-lora":  # beside the student stands the user's LoRA, not the base alone
        assert origin_of(run / "samples" / "pictures" / "teacher-00.png") == "teacher mine, 40 steps, no guidance"
    examined = [line for line in lines if line["phase"] == "examine"]
    assert [line["iteration"] for line in examined] == [0, 2]
    assert all({"composite", "t2i.psnr", "t2i.variety"} <= line.keys() for line in examined)
    assert ("edit.psnr" in examined[-1]) == (name not in T2I_ALONE)
    asked = {teacher for line in trained for teacher in line["teacher_forwards"]}
    if name == "my-lora":
        assert asked == {"mine"}, "the LoRA teaches every step"
    else:
        assert asked >= ({"base", "drawing"} if TWINS[name].teachers else {"base"})

    done("export", run, "--to", tmp_path / "student")
    index = read_index(tmp_path / "student")
    assert index["_class_name"] == read_index(tmp_path / "base")["_class_name"]
    done("sample", tmp_path / "student", "-p", "a house", "--size", "64x64", "--out", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (64, 64)
    assert (recipe.run.blocks_to_swap > 0) == (TWINS[name].swapped > 0) == (load_recipe(name).run.blocks_to_swap > 0)
    shrunk = {*SHRUNK, "model", *(f"teachers.named.{teacher}.model" for teacher, _ in TWINS[name].teachers)}
    if TWINS[name].swapped:
        shrunk.add("run.blocks_to_swap")
    if recipe.student.shift == "teacher":  # the run keeps what that stood for
        shrunk.add("student.sigmas")
    shipped_keys, ran = flat_keys(load_recipe(name).resolved()), flat_keys(recipe.resolved())
    if shipped_keys["student.shift"] == "teacher":  # the levels that it stood for are kept beside it, and shipped
        shrunk |= {"student.sigmas"}
        assert json.loads((tmp_path / "student" / "sample_sigmas.json").read_text()) == list(recipe.student.grid)
    if shipped_keys["run.gradient_checkpointing"] == "auto":  # the run keeps what that stood for, on a CPU
        by_task = [f"run.gradient_checkpointing.{task}" for task in TASKS]
        assert [ran[key] for key in by_task] == ["full", "full"]
        shrunk |= {*by_task}
    assert {key for key in ran if ran[key] != shipped_keys.get(key)} <= shrunk, "the overlay changed nothing else"


@pytest.mark.parametrize("name", shipped_recipes())
def test_show_prints_a_recipe_that_loads(name: str) -> None:
    result = fewstep("recipe", "show", name)
    assert result.exit_code == 0
    assert yaml.safe_load(result.output)["name"] == name
