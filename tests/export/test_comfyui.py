"""What is written for ComfyUI, of every family, held against readers that share nothing with our writer: diffusers' own
of ComfyUI's single files, and ours that merges a LoRA as ComfyUI does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.backbones.families import load_backbone, model_shapes
from fewstep.backbones.stock_run import refuse_other_weights
from fewstep.backbones.testing import (
    tiny_flux2_klein,
    tiny_flux3,
    tiny_longcat_image,
    tiny_qwen_image,
    tiny_qwen_image_21,
    tiny_z_image,
)
from fewstep.export import comfyui
from fewstep.export.card import StudentInfo
from fewstep.export.folder import ExportOptions, StudentWeights, export_student
from fewstep.export.lora import Lora, LoraFiles
from fewstep.export.single_file import single_file_of, write_single_file
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.file import read_lora
from fewstep.lora.keys import to_diffusers_names
from fewstep.runtime.errors import ExportError
from tests.export.adapters import random_adapter
from tests.export.comfyui_reader import merged_as_comfyui

GRID = SigmaGrid.static(4, 3.0)
RECIPE = "name: tiny\nsize: [64, 64]\n"
ALPHA = 6.0
BASES: dict[str, Callable[[], Any]] = {
    "qwen-image-2.1": lambda: tiny_qwen_image_21.qwen_image_21_pipeline(0),
    "qwen-image": tiny_qwen_image.qwen_image_pipeline,
    "qwen-image-edit": tiny_qwen_image.qwen_image_edit_pipeline,
    "flux2-klein": tiny_flux2_klein.flux2_klein_pipeline,
    "z-image": tiny_z_image.z_image_pipeline,
    "longcat-image-edit": tiny_longcat_image.longcat_image_edit_pipeline,
    "flux3-klein": tiny_flux3.flux3_pipeline,
}
WHOLE = {"flux2-klein", "z-image", "longcat-image-edit", "flux3-klein"}  # of which every key is written out below
ZERO = "__index_timestep_zero__"
Z_BLOCKS = ("context_refiner.0", "noise_refiner.0", "layers.0", "layers.1")
Z_LAYERS = (
    *("attention.qkv", "attention.out", "attention.q_norm", "attention.k_norm"),
    *("feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
    *("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"),
)
FLUX_LAYERS = (
    *("img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "final_layer.linear"),
    "final_layer.adaLN_modulation.1",
    *(f"double_blocks.0.{of}_attn.{part}" for of in ("img", "txt") for part in ("qkv", "proj")),
    *(f"double_blocks.0.{of}_{part}" for of in ("img", "txt") for part in ("mlp.0", "mlp.2", "mod.lin")),
    *(f"single_blocks.{i}.{part}" for i in (0, 1) for part in ("linear1", "linear2", "modulation.lin")),
)
FLUX3_MODES = ("image", "image_cond", "txt")
FLUX3_BLOCKS = (
    *(f"content_mode_blocks.{mode}.0" for mode in FLUX3_MODES[:2]),
    *("txt_mode_blocks.0", "single_blocks.0", "single_blocks.1"),
)
# What the files that ComfyUI loads hold, of what is called otherwise in diffusers. Source: the published checkpoints.
NATIVE = {
    "qwen-image-2.1": {"transformer_blocks.1.img_mlp.gate_up.weight", "txt_in.text_norm.weight"},
    "qwen-image": {"transformer_blocks.1.img_mlp.net.0.proj.weight", "txt_norm.weight"},
    "qwen-image-edit": {"transformer_blocks.1.txt_mod.1.bias", ZERO},
    "flux2-klein": {
        *("img_in.weight", "txt_in.weight", "time_in.in_layer.weight", "time_in.out_layer.weight"),
        *("double_stream_modulation_img.lin.weight", "double_stream_modulation_txt.lin.weight"),
        *("single_stream_modulation.lin.weight", "final_layer.linear.weight", "final_layer.adaLN_modulation.1.weight"),
        *(f"double_blocks.0.{of}_attn.{part}" for of in ("img", "txt") for part in ("qkv.weight", "proj.weight")),
        *(f"double_blocks.0.{of}_attn.norm.{part}_norm.scale" for of in ("img", "txt") for part in ("query", "key")),
        *(f"double_blocks.0.{of}_mlp.{layer}.weight" for of in ("img", "txt") for layer in (0, 2)),
        *(f"single_blocks.{i}.{layer}.weight" for i in (0, 1) for layer in ("linear1", "linear2")),
        *(f"single_blocks.{i}.norm.{part}_norm.scale" for i in (0, 1) for part in ("query", "key")),
    },
    "z-image": {
        *("x_pad_token", "cap_pad_token", "x_embedder.weight", "x_embedder.bias", "cap_embedder.0.weight"),
        *(f"cap_embedder.1.{kind}" for kind in ("weight", "bias")),
        *(f"t_embedder.mlp.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")),
        *(f"final_layer.{layer}.{kind}" for layer in ("linear", "adaLN_modulation.1") for kind in ("weight", "bias")),
        *(f"{block}.{layer}.weight" for block in Z_BLOCKS for layer in Z_LAYERS),
        *(f"{block}.adaLN_modulation.0.{kind}" for block in Z_BLOCKS[1:] for kind in ("weight", "bias")),
    },
    "longcat-image-edit": {
        *(f"{layer}.{kind}" for layer in FLUX_LAYERS for kind in ("weight", "bias")),
        *(f"double_blocks.0.{of}_attn.norm.{part}_norm.scale" for of in ("img", "txt") for part in ("query", "key")),
        *(f"single_blocks.{i}.norm.{part}_norm.scale" for i in (0, 1) for part in ("query", "key")),
    },
    "flux3-klein": {
        *(f"time_in.{layer}_layer.weight" for layer in ("in", "out")),
        *("txt_in.weight", "emb_in.image.weight", "emb_in.image_cond.weight"),
        *(f"{when}_stream_modulations.{mode}.lin.weight" for when in ("early", "single") for mode in FLUX3_MODES),
        *(f"{block}.{part}_proj.weight" for block in FLUX3_BLOCKS for part in "qkv"),
        *(f"{block}.{layer}.weight" for block in FLUX3_BLOCKS for layer in ("attn_out", "mlp_in", "mlp_out")),
        *(f"{block}.norm.{part}_norm.scale" for block in FLUX3_BLOCKS for part in ("query", "key")),
        *("final_layer.image.linear.weight", "final_layer.image.adaLN_modulation.1.weight"),
    },
}


@pytest.fixture(scope="module", params=BASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, Lora]:
    """(family, base, student in float32 with everything for ComfyUI, its update)."""
    place = tmp_path_factory.mktemp(request.param)
    BASES[request.param]().save_pretrained(place / "base")
    adapter = random_adapter(load_backbone(place / "base", dtype=torch.float32, parts="transformer"))
    student = export_student(
        place / "base",
        StudentWeights(adapter, "adapter", ALPHA),
        GRID,
        place / "student",
        RECIPE,
        StudentInfo("Tiny", (64, 96), "someone/tiny"),
        ExportOptions(dtype="fp32", files=LoraFiles(("comfyui",)), single_file=True),
    )
    return request.param, place / "base", student, Lora.of(adapter, ALPHA)


def test_the_single_file_is_the_folder_for_diffusers_own_reader(made: tuple[str, Path, Path, Lora]) -> None:
    """Every tensor of the folder, to the last bit."""
    name, _, student, _ = made
    transformer: Any = load_backbone(student, dtype=torch.float32, parts="transformer").transformer
    file = student / "comfyui" / "Tiny.safetensors"
    keys = set(load_file(file))
    assert keys >= NATIVE[name]
    assert name not in WHOLE or keys == NATIVE[name]
    assert (ZERO in keys) == (name == "qwen-image-edit")
    if name == "longcat-image-edit":  # which diffusers does not read; see below
        return
    found = type(transformer).from_single_file(str(file), config=str(student), subfolder="transformer")
    assert found.state_dict().keys() == transformer.state_dict().keys()
    for key, value in transformer.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key


def test_longcats_single_file_is_flux_1s(tmp_path: Path) -> None:
    """Which layers are one, in which order, and that the last modulation's halves change places."""
    tiny_longcat_image.longcat_image_pipeline().save_pretrained(tmp_path / "base")
    held = load_backbone(tmp_path / "base", dtype=torch.float32, parts="transformer").transformer.state_dict()
    found = load_file(write_single_file(tmp_path / "base" / "transformer", tmp_path / "x.safetensors"))
    single, double = "single_transformer_blocks.1", "transformer_blocks.0"
    first = [f"{single}.{part}" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    text = [f"{double}.attn.add_{part}_proj" for part in "qkv"]
    for kind in ("weight", "bias"):
        for name, parts in (("single_blocks.1.linear1", first), ("double_blocks.0.txt_attn.qkv", text)):
            assert torch.equal(found[f"{name}.{kind}"], torch.cat([held[f"{part}.{kind}"] for part in parts]))
        swapped = torch.cat(held[f"norm_out.linear.{kind}"].chunk(2)[::-1])
        assert torch.equal(found[f"final_layer.adaLN_modulation.1.{kind}"], swapped)
    assert sum(map(torch.numel, found.values())) == sum(map(torch.numel, held.values()))


def test_a_single_file_of_other_weights_is_refused(made: tuple[str, Path, Path, Lora], tmp_path: Path) -> None:
    """By the process in which `--verify` opens the folder; the base's file instead of the student's."""
    name, base, student, _ = made
    if name == "longcat-image-edit":  # which diffusers does not read
        return
    transformer: Any = load_backbone(student, dtype=torch.float32, parts="transformer").transformer
    refuse_other_weights(transformer, str(single_file_of(student)), str(student))
    with pytest.raises(SystemExit, match=r"holds other weights than .* more"):
        refuse_other_weights(transformer, str(base_file(base, tmp_path)), str(student))


def test_a_lora_on_the_bases_file_is_the_students_file(made: tuple[str, Path, Path, Lora], tmp_path: Path) -> None:
    """Merged as ComfyUI merges it, key for key: no key of the LoRA is left, and the student's own file comes out."""
    _, base, student, _ = made
    before = {f"diffusion_model.{k}": v for k, v in load_file(base_file(base, tmp_path)).items()}
    after = load_file(student / "comfyui" / "Tiny.safetensors")
    changed = merged_as_comfyui(student / "comfyui" / "Tiny-lora.safetensors", before)
    for name, weight in changed.items():
        torch.testing.assert_close(weight, after[name.removeprefix("diffusion_model.")], atol=1e-5, rtol=0)
    same = {k for k, v in before.items() if torch.equal(v, after[k.removeprefix("diffusion_model.")])}
    assert same == set(before) - set(changed)


def base_file(base: Path, tmp_path: Path) -> Path:
    return write_single_file(base / "transformer", tmp_path / "base.safetensors")


@pytest.mark.parametrize("kohya", [False, True])
def test_its_own_lora_comes_back(made: tuple[str, Path, Path, Lora], kohya: bool, tmp_path: Path) -> None:
    """From ComfyUI's names, and from kohya's spelling of them, to the base's own modules."""
    _, base, student, lora = made
    tensors = load_file(student / "comfyui" / "Tiny-lora.safetensors")
    if kohya:
        tensors = {kohyas(key): value for key, value in tensors.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    found = to_diffusers_names(read_lora(tmp_path / "x.safetensors"), model_shapes(base).linear_shapes, "x")
    assert found.keys() == lora.updates.keys()
    for module, update in lora.updates.items():
        torch.testing.assert_close(found[module].delta(), update.delta(), atol=1e-5, rtol=0)


def kohyas(key: str) -> str:
    module, _, part = key.removeprefix("diffusion_model.").partition(".lora_")
    if not part:
        return f"lora_unet_{module.removesuffix('.alpha').replace('.', '_')}.alpha"
    return f"lora_unet_{module.replace('.', '_')}.lora_{'down' if part.startswith('A') else 'up'}.weight"


def test_an_update_of_the_last_modulation_changes_places(tmp_path: Path) -> None:
    """ComfyUI's klein has shift before scale, diffusers' after it; a LoRA on that layer must be turned with it."""
    shapes = {"double_stream_modulation_img.linear": (6, 4), "norm_out.linear": (8, 4)}
    (factors,) = Lora.of(
        {
            "norm_out.linear.lora_A.weight": torch.ones(1, 4),
            "norm_out.linear.lora_B.weight": torch.arange(8.0)[:, None],
        },
        1.0,
    ).updates.values()
    comfyui_file = tmp_path / "x.safetensors"
    from_diffusers = {"norm_out.linear": factors}
    save_file(
        {
            "diffusion_model.final_layer.adaLN_modulation.1.lora_A.weight": torch.ones(1, 4),
            "diffusion_model.final_layer.adaLN_modulation.1.lora_B.weight": torch.arange(8.0).roll(4)[:, None],
        },
        comfyui_file,
    )
    found = to_diffusers_names(read_lora(comfyui_file), shapes, "x")
    assert torch.equal(found["norm_out.linear"].delta(), from_diffusers["norm_out.linear"].delta())


@pytest.mark.parametrize("weights", ["lora", "single-file"])
def test_workflows_lead_from_the_weights_to_a_picture(made: tuple[str, Path, Path, Lora], weights: str) -> None:
    name, _, student, _ = made
    folder, whole = student / "comfyui", weights == "single-file"
    tasks = ("t2i",) if name in ("qwen-image", "z-image") else ("t2i", "edit")
    assert len(list(folder.glob("workflow-*.json"))) == 2 * len(tasks)
    for task in tasks:
        graph = json.loads((folder / comfyui.workflow_file(task, whole)).read_text())  # type: ignore[arg-type]
        kinds = {node["class_type"]: node["inputs"] for node in graph.values()}
        links = [v for node in graph.values() for v in node["inputs"].values() if isinstance(v, list)]
        assert {node for node, _ in links} == set(graph) - {
            k for k, n in graph.items() if n["class_type"] == "SaveImage"
        }
        assert kinds["ManualSigmas"]["sigmas"] == "1, 0.9, 0.75, 0.5, 0"
        asked = graph[kinds["BasicGuider"]["model"][0]]["class_type"]
        assert asked == ("UNETLoader" if whole else "LoraLoaderModelOnly")
        assert (
            folder / (kinds["UNETLoader"]["unet_name"] if whole else kinds["LoraLoaderModelOnly"]["lora_name"])
        ).exists()
        zero_index = "FluxKontextMultiReferenceLatentMethod" in kinds
        assert zero_index == (name in ("qwen-image-edit", "longcat-image-edit") and task == "edit")
        assert ("LoadImage" in kinds) == (task == "edit")


def test_the_card_names_the_files_that_are_there(made: tuple[str, Path, Path, Lora]) -> None:
    _, _, student, _ = made
    card = (student / "README.md").read_text()
    for file in (student / "comfyui").iterdir():
        assert file.name == "sigmas.txt" or f"`comfyui/{file.name}`" in card


def test_weights_of_a_full_run_in_bf16(tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_flux2_klein.flux2_klein_pipeline().save_pretrained(base, max_shard_size="100KB")
    state: dict[str, Any] = load_backbone(base, dtype=torch.float32, parts="transformer").transformer.state_dict()
    student = export_student(
        base,
        StudentWeights(state, "full"),
        GRID,
        tmp_path / "student",
        RECIPE,
        StudentInfo("Tiny", (64, 64)),
        ExportOptions(single_file=True),
    )
    found = load_file(student / "comfyui" / "Tiny.safetensors")
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    fused = torch.cat([state[f"transformer_blocks.0.attn.{part}.weight"] for part in ("to_q", "to_k", "to_v")])
    assert torch.equal(found["double_blocks.0.img_attn.qkv.weight"], fused.bfloat16())
    assert "workflow-t2i-single-file.json" in (student / "README.md").read_text()


def test_layouts_that_are_not_known_are_refused() -> None:
    with pytest.raises(ExportError, match=r"of hunyuan is not known here .*--lora diffusers"):
        comfyui.refuse_unknown(["layers.0.attn.qkv", "layers.0.mlp"], "hunyuan")
