"""FLUX 3's files for ComfyUI, of which no version that knows it was at hand: through diffusers' own readers of the
makers' layout they are the same student."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_flux3_lora_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.stock import Flux3ModularPipeline, Flux3Transformer2DModel
from fewstep.backbones.testing.tiny_flux3 import flux3_pipeline
from fewstep.export.card import StudentInfo
from fewstep.export.folder import ExportOptions, StudentWeights, export_lora
from fewstep.export.lora import Lora, LoraFiles, write_comfyui_lora, write_lora
from fewstep.export.single_file import write_single_file
from fewstep.flow.sigmas import SigmaGrid
from fewstep.lora.factors import merged
from fewstep.lora.file import read_lora
from fewstep.lora.keys import to_diffusers_names
from fewstep.runtime.errors import ExportError
from tests.export.adapters import random_adapter
from tests.export.comfyui_reader import merged_as_comfyui

RANK, ALPHA = 3, 6.0


def shapes_of(transformer: Any) -> dict[str, tuple[int, ...]]:
    return {n: tuple(m.weight.shape) for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear)}


def update_of_every_layer(transformer: Any) -> Lora:
    draw = torch.Generator().manual_seed(3)
    state: dict[str, Tensor] = {}
    for name, (rows, columns) in shapes_of(transformer).items():
        state[f"{name}.lora_A.weight"] = 0.1 * torch.randn(RANK, columns, generator=draw)
        state[f"{name}.lora_B.weight"] = 0.1 * torch.randn(rows, RANK, generator=draw)
    return Lora.of(state, ALPHA)


def test_diffusers_own_converter_gives_the_file_for_diffusers(tmp_path: Path) -> None:
    """Key for key and bit for bit, of every layer that adapters attach to; strength is in the factors."""
    backbone = Flux3Klein.tiny()
    lora = Lora.of(random_adapter(backbone), ALPHA)  # type: ignore[arg-type]
    theirs = load_file(write_comfyui_lora(lora, tmp_path / "theirs.safetensors", shapes_of(backbone.transformer)))
    ours = load_file(write_lora(lora, tmp_path))
    assert all(key.startswith("diffusion_model.") for key in theirs)
    found = _convert_non_diffusers_flux3_lora_to_diffusers(theirs)
    alphas = {key: found.pop(key) for key in list(found) if key.endswith(".alpha")}
    assert {key.rpartition(".lora_")[0] for key in ours} == {key.removesuffix(".alpha") for key in alphas}
    assert {float(alpha) for alpha in alphas.values()} == {float(RANK)}, "alpha = rank, so a scale of 1"
    assert found.keys() == ours.keys()
    for key, value in ours.items():
        assert torch.equal(found[key], value), key


def test_stock_diffusers_answers_as_our_reader(tmp_path: Path) -> None:
    """The file in the pipeline of diffusers, and merged by our reader. Stock diffusers refuses tensors of alpha."""
    backbone = Flux3Klein.tiny()
    adapter, shapes = random_adapter(backbone), shapes_of(backbone.transformer)  # type: ignore[arg-type]
    file = write_comfyui_lora(Lora.of(adapter, ALPHA), tmp_path / "x.safetensors", shapes)
    tensors = load_file(file)
    pipe: Any = flux3_pipeline()
    with pytest.raises(ValueError, match="`'lora'` substring"):
        Flux3ModularPipeline.load_lora_weights(pipe, dict(tensors))
    Flux3ModularPipeline.load_lora_weights(
        pipe, {key: value for key, value in tensors.items() if not key.endswith(".alpha")}
    )
    with torch.no_grad():
        for module, update in to_diffusers_names(read_lora(file), shapes, "x").items():
            weight = backbone.transformer.get_parameter(f"{module}.weight")
            weight.copy_(merged(weight, update, module))
    (cond,) = backbone.encode(["a red boat"], None, (64, 64))
    z_BND, t_B = torch.randn(1, *backbone.noise_shape(cond.layout)), torch.tensor([0.6])
    with torch.no_grad():
        stock = backbone.velocity(pipe.transformer, z_BND, t_B, cond)
        torch.testing.assert_close(backbone.velocity(backbone.transformer, z_BND, t_B, cond), stock, rtol=0, atol=1e-5)


def test_an_update_of_every_layer_on_the_makers_file(tmp_path: Path) -> None:
    """Merged by ComfyUI's rule onto the base's single file, and opened by diffusers: the update on the base itself. So
    the layers that diffusers' converter of LoRAs leaves as they are have the names of whole weights."""
    flux3_pipeline().save_pretrained(tmp_path / "base")
    base = tmp_path / "base" / "transformer"
    transformer: Any = Flux3Transformer2DModel.from_pretrained(base)
    lora = update_of_every_layer(transformer)
    before = load_file(write_single_file(base, tmp_path / "base.safetensors"))
    lora_file = write_comfyui_lora(lora, tmp_path / "lora.safetensors", shapes_of(transformer))
    changed = merged_as_comfyui(lora_file, {f"diffusion_model.{key}": value for key, value in before.items()})
    assert len(changed) == len(lora.updates)
    after = before | {key.removeprefix("diffusion_model."): value for key, value in changed.items()}
    save_file(after, tmp_path / "after.safetensors")
    read: Any = Flux3Transformer2DModel.from_single_file(
        str(tmp_path / "after.safetensors"), config=str(tmp_path / "base"), subfolder="transformer"
    )
    with torch.no_grad():
        for module, one in lora.updates.items():
            weight = transformer.get_parameter(f"{module}.weight")
            weight.copy_(merged(weight, one, module))
    assert read.state_dict().keys() == transformer.state_dict().keys()
    for key, value in transformer.state_dict().items():
        torch.testing.assert_close(read.state_dict()[key], value, rtol=0, atol=1e-6)


def test_bare_keys_are_refused(tmp_path: Path) -> None:
    """No program is known to read them."""
    flux3_pipeline().save_pretrained(tmp_path / "base")
    weights = StudentWeights(random_adapter(Flux3Klein.tiny()), "adapter", ALPHA)  # type: ignore[arg-type]
    about, plain = StudentInfo("Tiny", (64, 64)), ExportOptions(files=LoraFiles(("plain",)))
    with pytest.raises(ExportError, match=r"bare keys \(--lora plain\) of FLUX 3 Klein.*Take --lora comfyui"):
        export_lora(tmp_path / "base", weights, SigmaGrid.static(4, 3.0), tmp_path / "to", "name: x\n", about, plain)
    assert not (tmp_path / "to").exists()
