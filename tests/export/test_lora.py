"""LoRA files for each program: the same update under other names, and the same pictures in the end.

What ComfyUI makes of a file is read by `comfyui_reader.py`, which shares nothing with `fewstep.lora`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.backbones.families import model_shapes
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.card import StudentInfo
from fewstep.export.comfyui import manual_sigmas
from fewstep.export.folder import ExportOptions, StudentWeights, export_lora, export_student
from fewstep.export.graphs import ComfyUIBase, graph
from fewstep.export.lora import (
    Lora,
    LoraFiles,
    write_comfyui_lora,
    write_lora,
    write_plain_lora,
)
from fewstep.export.run_student import RunStudent
from fewstep.export.verify import verify, verify_lora
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.file import read_lora
from fewstep.lora.keys import to_comfyui_names, to_diffusers_names
from fewstep.runtime.errors import AdapterError, ExportError
from tests.export.comfyui_reader import merged_as_comfyui
from tests.lora.random_factors import random_factors

GRID = SigmaGrid.static(4, 3.0)
RECIPE = "name: tiny\nsize: [64, 64]\n"
ALPHA = 6.0
BOTH = LoraFiles(("diffusers", "comfyui"))


@pytest.fixture(scope="module")
def exported(base: Path, adapter: Mapping[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("lora") / "folder"
    return export_lora(
        base,
        StudentWeights(adapter, "adapter", ALPHA),
        GRID,
        to,
        RECIPE,
        StudentInfo("Tiny", (64, 64)),
        ExportOptions(files=BOTH),
    )


@pytest.fixture(scope="module")
def weights(base: Path) -> dict[str, Tensor]:
    return load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")


def as_comfyui_has_them(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base's matrices as ComfyUI's model holds them: gate and projection of each MLP in one, gate rows first."""
    found = {f"diffusion_model.{name}": value for name, value in weights.items() if value.dim() == 2}
    for name in [name for name in found if name.endswith(".img_mlp.gate_layer.weight")]:
        stem = name.removesuffix("gate_layer.weight")
        found[f"{stem}gate_up.weight"] = torch.cat([found.pop(name), found.pop(f"{stem}proj.weight")])
    return found


def test_comfyui_gets_the_merged_weights_key_for_key(
    exported: Path,
    base: Path,
    adapter: Mapping[str, Tensor],
    weights: dict[str, Tensor],
    tmp_path: Path,
    about: StudentInfo,
) -> None:
    student = export_student(
        base,
        StudentWeights(adapter, "adapter", ALPHA),
        GRID,
        tmp_path / "s",
        RECIPE,
        about,
        ExportOptions(dtype="fp32"),
    )
    expected = as_comfyui_has_them(load_file(student / "transformer" / "diffusion_pytorch_model.safetensors"))
    changed = merged_as_comfyui(exported / "comfyui" / "Tiny-lora.safetensors", as_comfyui_has_them(weights))
    assert any(name.endswith("img_mlp.gate_up.weight") for name in changed)
    assert len(changed) == len(Lora.of(adapter, ALPHA).updates) - len(weights_of_fused(weights))
    for name, weight in changed.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-5, rtol=0)


def weights_of_fused(weights: Mapping[str, Tensor]) -> list[str]:
    return [name for name in weights if name.endswith("gate_layer.weight")]


@pytest.mark.parametrize("name", ["diffusers", "comfyui", "plain"])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 8), st.sampled_from([0.5, 1.0, 4.0, 6.0, 100.0]))
def test_every_reader_gets_the_right_strength(name: str, tmp_path: Path, rank: int, alpha: float) -> None:
    """One that reads alpha where the program has it, and one that reads none and takes the rank."""
    shapes = {"b.img_mlp.gate_layer": (5, 6), "b.img_mlp.proj": (7, 6)}
    lora = Lora({m: random_factors(rows, rank, alpha, rows) for m, (rows, _) in shapes.items()})
    file = tmp_path / "x.safetensors"
    {
        "diffusers": lambda: write_lora(lora, tmp_path).rename(file),
        "comfyui": lambda: write_comfyui_lora(lora, file, shapes),
        "plain": lambda: write_plain_lora(lora, file),
    }[name]()
    whole = load_file(file)
    save_file({k: v for k, v in whole.items() if not k.endswith(".alpha")}, tmp_path / "bare.safetensors")
    for written in (file, tmp_path / "bare.safetensors"):
        found = to_diffusers_names(read_lora(written), shapes, "x")
        for module, update in lora.updates.items():
            torch.testing.assert_close(found[module].delta(), update.delta(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["diffusers", "plain"])
def test_stock_diffusers_loads_it_at_the_right_strength(
    name: str, base: Path, adapter: Mapping[str, Tensor], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    """With what the file states, and without: as if a tool had dropped the metadata and the alphas."""
    lora, shapes = Lora.of(adapter, ALPHA), model_shapes(base).linear_shapes
    to_diffusers_names(lora.updates, shapes, "x")
    file = write_lora(lora, tmp_path) if name == "diffusers" else write_plain_lora(lora, tmp_path / "x.safetensors")
    bare = {key: value for key, value in load_file(file).items() if not key.endswith(".alpha")}
    for source in (str(file), {f"transformer.{key.removeprefix('transformer.')}": v for key, v in bare.items()}):
        pipe = QwenImage21.load(base, torch.float32).pipeline
        pipe.load_lora_weights(source)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        found = pipe.transformer.state_dict()
        for module, update in lora.updates.items():
            key = f"{module}.weight"
            torch.testing.assert_close(found[key] - weights[key], update.delta(), atol=1e-6, rtol=0)


def test_the_plain_file_has_bare_keys_and_every_module(
    base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    files = LoraFiles.from_options("plain", None)
    to = export_lora(
        base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "x", RECIPE, about, ExportOptions(files=files)
    )
    modules = Lora.of(adapter, ALPHA).updates
    stored = load_file(to / "plain" / "Tiny student-lora.safetensors")
    assert set(stored) == {f"{m}.{part}" for m in modules for part in ("alpha", "lora_A.weight", "lora_B.weight")}
    assert not (to / "pytorch_lora_weights.safetensors").exists()
    graph = json.loads((to / "comfyui" / "workflow-t2i.json").read_text())
    assert any(node["inputs"].get("lora_name") == "Tiny student-lora.safetensors" for node in graph.values())
    card = (to / "README.md").read_text()
    for phrase in ("`plain/Tiny student-lora.safetensors`", f"{len(modules)} tensors", "sigmas=[1.0, 0.9, 0.75, 0.5]"):
        assert phrase in card


def test_alpha_is_written_for_every_module(exported: Path) -> None:
    with safe_open(exported / "comfyui" / "Tiny-lora.safetensors", framework="pt") as file:
        keys = set(file.keys())
    modules = {key.split(".lora_")[0] for key in keys if ".lora_" in key}
    assert {f"{module}.alpha" for module in modules} == {key for key in keys if key.endswith(".alpha")}
    assert not any(".gate_layer." in key or ".proj." in key for key in keys)


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.1, 50), st.floats(0.1, 50))
def test_block_form_is_the_separate_matrices(gate_rank: int, up_rank: int, gate_alpha: float, up_alpha: float) -> None:
    """Whatever their ranks and scales, written and read back."""
    shapes = {"b.img_mlp.gate_layer": (5, 6), "b.img_mlp.proj": (5, 6)}
    lora = Lora(
        {
            "b.img_mlp.gate_layer": random_factors(5, gate_rank, gate_alpha, 1),
            "b.img_mlp.proj": random_factors(5, up_rank, up_alpha, 2),
        }
    )
    (block,) = to_comfyui_names(lora.updates, shapes).values()
    expected = torch.cat([update.delta() for update in lora.updates.values()])
    torch.testing.assert_close(block.delta(), expected, atol=1e-5, rtol=1e-5)
    back = to_diffusers_names({"b.img_mlp.gate_up": block}, shapes, "a test")
    for name, update in lora.updates.items():
        torch.testing.assert_close(back[name].delta(), update.delta(), atol=1e-5, rtol=1e-5)


def test_half_of_a_fused_layer(tmp_path: Path) -> None:
    """A LoRA of the projection alone leaves the gate's rows as they are."""
    shapes = {"b.img_mlp.gate_layer": (5, 6), "b.img_mlp.proj": (5, 6)}
    only = random_factors(5, 2, 3.0, 1)
    write_comfyui_lora(Lora({"b.img_mlp.proj": only}), tmp_path / "x.safetensors", shapes)
    back = to_diffusers_names(read_lora(tmp_path / "x.safetensors"), shapes, "a test")
    torch.testing.assert_close(back["b.img_mlp.proj"].delta(), only.delta())
    assert not back["b.img_mlp.gate_layer"].delta().any()


def test_the_run_s_own_pictures_with_stock_diffusers(exported: Path, base: Path, adapter: Mapping[str, Tensor]) -> None:
    """Base, each program's LoRA, scheduler and sigmas in a fresh process: the same float32 pixels, T2I and edit."""
    run_student = RunStudent({}, Lora.of(adapter, ALPHA))
    report = verify_lora(exported, str(base), run_student, GRID, size=(64, 64))
    theirs = [f"{task}, Tiny-lora.safetensors" for task in ("t2i", "edit")]
    assert [check.task for check in report.checks] == ["t2i", "edit", *theirs]
    assert report.exact
    for check in report.checks:
        assert check.times == pytest.approx(list(GRID), abs=1e-7)
        assert check.run_error is not None
        assert check.run_error < 1e-4
    other = RunStudent({}, Lora.of({key: 1.2 * value for key, value in adapter.items()}, ALPHA))
    with pytest.raises(ExportError, match="differ"):
        verify_lora(exported, str(base), other, GRID, size=(64, 64))


def test_a_merged_folder_is_the_run_s_student_too(base: Path, adapter: Mapping[str, Tensor], tmp_path: Path) -> None:
    to = tmp_path / "s"
    export_student(
        base,
        StudentWeights(adapter, "adapter", ALPHA),
        GRID,
        to,
        RECIPE,
        StudentInfo("T", (64, 64)),
        ExportOptions(dtype="fp32"),
    )
    report = verify(to, run=(str(base), RunStudent({}, Lora.of(adapter, ALPHA))))
    assert report.exact
    assert all(check.run_error is not None and check.run_error < 1e-4 for check in report.checks)
    assert "of the run's own" in report.words()


def test_weights_of_a_full_run_are_held_as_they_are(base: Path, tmp_path: Path) -> None:
    other = QwenImage21.tiny(seed=5).transformer.state_dict()
    backbone = QwenImage21.load(base, torch.float32)
    with RunStudent(other, None).on(backbone) as transformer:
        assert all(torch.equal(value, other[name]) for name, value in transformer.state_dict().items())


def test_the_card_states_that_a_folder_is_cut_down(base: Path, adapter: Mapping[str, Tensor], tmp_path: Path) -> None:
    """And its merged weights have the same update as its LoRA: one folder, one student."""
    files = LoraFiles(BOTH.programs, svd_rank=1)
    to, about = tmp_path / "s", StudentInfo("T", (64, 64))
    export_student(
        base,
        StudentWeights(adapter, "adapter", ALPHA),
        GRID,
        to,
        RECIPE,
        about,
        ExportOptions(dtype="fp32", files=files),
    )
    card = (to / "README.md").read_text()
    assert re.search(r"rank 1 \(cut down to 1: \d+\.\d\d% of the update's length left out", card)
    before = load_file(base / "transformer" / "diffusion_pytorch_model.safetensors")
    after = load_file(to / "transformer" / "diffusion_pytorch_model.safetensors")
    for module, update in read_lora(to / "lora").items():
        torch.testing.assert_close(
            after[f"{module}.weight"] - before[f"{module}.weight"], update.delta(), atol=1e-5, rtol=0
        )


# ---- ComfyUI's graph


def test_manual_sigmas_are_digits_and_points() -> None:
    """ComfyUI reads them by a pattern without exponents, and needs the closing 0."""
    words = manual_sigmas([1.0, 0.1 + 0.2, 2e-5])
    assert words == "1, 0.3, 0.00002, 0"
    assert [float(x) for x in re.findall(r"[-+]?(?:\d*\.*\d+)", words)] == [1.0, 0.3, 2e-5, 0.0]


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_a_workflow_leads_from_the_lora_to_a_picture(exported: Path, task: str) -> None:
    graph = json.loads((exported / "comfyui" / f"workflow-{task}.json").read_text())
    by_kind = {node["class_type"]: node["inputs"] for node in graph.values()}
    for node in graph.values():
        for value in node["inputs"].values():
            assert not isinstance(value, list) or value[0] in graph
    assert by_kind["ManualSigmas"]["sigmas"] == manual_sigmas(list(GRID)) == "1, 0.9, 0.75, 0.5, 0"
    assert (exported / "comfyui" / by_kind["LoraLoaderModelOnly"]["lora_name"]).is_file()
    assert graph[by_kind["BasicGuider"]["model"][0]]["class_type"] == "LoraLoaderModelOnly"
    assert by_kind["KSamplerSelect"]["sampler_name"] == "euler"
    latent = graph[by_kind["SamplerCustomAdvanced"]["latent_image"][0]]["class_type"]
    assert latent == ("TextEncodeQwenImage21" if task == "edit" else "EmptyLatentImage")
    assert ("images.image_1" in by_kind["TextEncodeQwenImage21"]) == (task == "edit")


def test_a_workflow_has_the_students_size() -> None:
    made = graph(ComfyUIBase("QwenImage21Pipeline"), "t2i", "1, 0", (768, 1344), lora="x.safetensors")
    (size,) = (node["inputs"] for node in made.values() if node["class_type"] == "EmptyLatentImage")
    assert (size["height"], size["width"]) == (768, 1344)


@pytest.mark.parametrize("size", [(16, 32), (64, 64), (208, 208), (240, 240), (512, 768), (1024, 1024)])
def test_an_edit_of_klein_is_valid_at_every_size(size: tuple[int, int]) -> None:
    """The node that scales by area takes 0.01 megapixels and more, in hundredths: 64 px square were 0.0."""
    made = graph(ComfyUIBase("Flux2KleinPipeline"), "edit", "1, 0", size, lora="x.safetensors")
    (scaled,) = (node for node in made.values() if node["class_type"].startswith("ImageScale"))
    given, area = scaled["inputs"], size[0] * size[1]
    if scaled["class_type"] == "ImageScale":
        assert (given["height"], given["width"]) == size
    else:
        assert given["megapixels"] >= 0.01
        assert given["megapixels"] * 2**20 == pytest.approx(area, rel=0.11)


def test_the_card_names_to_comfyui_users_what_must_stay(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    for phrase in ("In ComfyUI", "ManualSigmas", "1, 0.9, 0.75, 0.5, 0", "Tiny-lora.safetensors", "load_lora_weights"):
        assert phrase in card


def test_a_lora_for_comfyui_alone(
    base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    files = LoraFiles.from_options("comfyui", None)
    to = export_lora(
        base,
        StudentWeights(adapter, "adapter", ALPHA),
        GRID,
        tmp_path / "x",
        RECIPE,
        about,
        ExportOptions(files=files, dtype="bf16"),
    )
    assert not (to / "pytorch_lora_weights.safetensors").exists()
    assert "load_lora_weights" not in (to / "README.md").read_text()
    stored = load_file(to / "comfyui" / "Tiny student-lora.safetensors")
    assert {value.dtype for key, value in stored.items() if ".lora_" in key} == {torch.bfloat16}


def test_a_plain_lora_of_another_strength_is_found(
    base: Path, adapter: Mapping[str, Tensor], about: StudentInfo, tmp_path: Path
) -> None:
    files = LoraFiles.from_options("plain", None)
    to = export_lora(
        base, StudentWeights(adapter, "adapter", ALPHA), GRID, tmp_path / "x", RECIPE, about, ExportOptions(files=files)
    )
    (file,) = (to / "plain").glob("*.safetensors")
    tensors = load_file(file)
    save_file({k: 1.5 * v if k.endswith(".alpha") else v for k, v in tensors.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ExportError, match=rf"differ.*plain/{file.name}"):
        verify_lora(to, str(base), RunStudent({}, Lora.of(adapter, ALPHA)), GRID, size=(64, 64))


def test_refusals(base: Path, about: StudentInfo, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="diffusers, comfyui, both, plain"):
        LoraFiles.from_options("a1111", None)
    assert LoraFiles.from_options(None, None) is None
    state = QwenImage21.tiny(seed=5).transformer.state_dict()
    with pytest.raises(ExportError, match="no LoRA to write"):
        export_student(
            base, StudentWeights(state, "full"), GRID, tmp_path / "s", RECIPE, about, ExportOptions(files=BOTH)
        )
    assert not list(tmp_path.iterdir())
