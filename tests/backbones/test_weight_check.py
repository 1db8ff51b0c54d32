"""Weights that are not the model's are refused by their headers, in words that name them; stock folders are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.backbones.embedded import POCKET, embedded_folder
from fewstep.backbones.families import family_of, load_backbone
from fewstep.backbones.folder import header_of
from fewstep.backbones.testing import tiny_flux2_klein, tiny_qwen_image, tiny_qwen_image_21
from fewstep.runtime.errors import ModelError

PIPELINES: Mapping[str, Callable[[], Any]] = {
    "qwen-image-2.1": tiny_qwen_image_21.qwen_image_21_pipeline,
    "qwen-image": tiny_qwen_image.qwen_image_pipeline,
    "qwen-image-edit": tiny_qwen_image.qwen_image_edit_pipeline,
    "flux2-klein": tiny_flux2_klein.flux2_klein_pipeline,
}
ENCODER = "text_encoder/model.safetensors"
DENOISER = "transformer/diffusion_pytorch_model.safetensors"
DECODER = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny model of stock classes as they save it. Not to be changed."""
    made: dict[str, Path] = {}

    def by_name(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            PIPELINES[name]().save_pretrained(made[name])
        return made[name]

    return by_name


@pytest.fixture
def folder(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the smallest one, to break."""
    return Path(shutil.copytree(saved("qwen-image-2.1"), tmp_path / "model"))


def change(file: Path, changed: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> None:
    save_file(dict(changed(load_file(file))), file, metadata={"format": "pt"})


def change_json(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_backbone(folder, dtype=torch.float32)
    for word in (*words, str(folder)):
        assert word in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", PIPELINES)
def test_what_stock_classes_save_passes(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    PIPELINES[name]().to(dtype).save_pretrained(tmp_path)
    family_of(tmp_path).inspect(tmp_path)


@pytest.mark.parametrize("name", PIPELINES)
def test_shards_pass(name: str, tmp_path: Path) -> None:
    PIPELINES[name]().save_pretrained(tmp_path, max_shard_size="60KB")
    for part in ("transformer", "text_encoder"):
        assert len(list((tmp_path / part).glob("*.safetensors"))) > 1
    family_of(tmp_path).inspect(tmp_path)


def test_the_embedded_model_passes() -> None:
    family_of(embedded_folder(POCKET)).inspect(embedded_folder(POCKET))


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("file", [ENCODER, DENOISER, DECODER])
def test_a_tensor_that_is_missing_or_too_many_is_named(
    saved: Callable[[str], Path], name: str, file: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved(name), tmp_path / "model"))
    gone = next(n for n, entry in header_of(folder / file).items() if len(entry["shape"]) == 2 or "conv" in n)
    change(folder / file, lambda held: {n: t for n, t in held.items() if n != gone} | {"more.weight": torch.ones(2)})
    refused(folder, file.split("/")[0], "missing", gone.split(".", 2)[-1], "not read", "more.weight")


def test_tied_weights_need_not_be_saved_twice(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved("flux2-klein"), tmp_path / "model"))
    change(folder / ENCODER, lambda held: {n: t for n, t in held.items() if n != "lm_head.weight"})
    change_json(folder / "text_encoder" / "config.json", tie_word_embeddings=False)
    refused(folder, "lm_head.weight")
    change_json(folder / "text_encoder" / "config.json", tie_word_embeddings=True)
    family_of(folder).inspect(folder)


def test_names_that_transformers_renames_pass(saved: Callable[[str], Path], tmp_path: Path) -> None:
    """Qwen2.5-VL was published with `visual.` and `model.layers.`; transformers reads these and its own names."""
    folder = Path(shutil.copytree(saved("qwen-image"), tmp_path / "model"))

    def older(name: str) -> str:
        return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")

    def newer(name: str) -> str:
        for old, new in (("visual.", "model.visual."), ("model.layers.", "model.language_model.layers.")):
            name = new + name.removeprefix(old) if name.startswith(old) else name
        return name

    for renamed in (newer, older):
        change(folder / ENCODER, lambda held, renamed=renamed: {renamed(n): t for n, t in held.items()})
        family_of(folder).inspect(folder)


def test_a_config_of_fewer_layers_is_refused(folder: Path) -> None:
    change_json(folder / "transformer" / "config.json", num_layers=1)
    refused(folder, "not read", "transformer_blocks.1.", "more", "config.json")


def test_a_config_of_more_layers_is_refused(folder: Path) -> None:
    config = folder / "text_encoder" / "config.json"
    text = json.loads(config.read_text())["text_config"]
    change_json(config, text_config=text | {"num_hidden_layers": text["num_hidden_layers"] + 1})
    refused(folder, "missing", "layers.")


@pytest.mark.parametrize("file", [ENCODER, DENOISER])
def test_another_shape_is_named(folder: Path, file: str) -> None:
    name = next(n for n, entry in header_of(folder / file).items() if len(entry["shape"]) == 2)
    change(folder / file, lambda held: held | {name: torch.zeros(3, 5)})
    refused(folder, "of another shape", name, "(3, 5)")


def test_a_prefix_of_another_program_is_named(folder: Path) -> None:
    change(folder / DENOISER, lambda held: {f"model.diffusion_model.{n}": t for n, t in held.items()})
    refused(folder, "behind 'model.diffusion_model.'")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool], ids=str)
@pytest.mark.parametrize("file", [ENCODER, DENOISER])
def test_integers_are_no_weights(folder: Path, file: str, dtype: torch.dtype) -> None:
    change(folder / file, lambda held: {n: t.to(dtype) for n, t in held.items()})
    refused(folder, "floating-point", {torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}[dtype])


def scaled_fp8(held: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    matrices = {n: t for n, t in held.items() if t.ndim == 2}
    eights = {n: t.to(torch.float8_e4m3fn) for n, t in matrices.items()}
    return held | eights | {f"{n.removesuffix('weight')}{name}": torch.tensor(1.0) for n in matrices}


@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("file", [ENCODER, DENOISER])
def test_scaled_fp8_is_called_so(folder: Path, file: str, name: str) -> None:
    change(folder / file, lambda held: scaled_fp8(held, name))
    refused(folder, "scaled fp8", name, "bf16")


def test_a_marker_of_scaled_fp8_is_enough(folder: Path) -> None:
    change(folder / DENOISER, lambda held: held | {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)})
    refused(folder, "scaled fp8")


def test_plain_fp8_is_read_as_the_numbers_it_holds(folder: Path) -> None:
    change(folder / DENOISER, lambda held: {n: t.to(torch.float8_e4m3fn) for n, t in held.items()})
    state = load_backbone(folder, dtype=torch.float32).transformer.state_dict()
    assert all(torch.equal(state[name], value.float()) for name, value in load_file(folder / DENOISER).items())


def test_packed_integers_are_called_so(folder: Path) -> None:
    change(folder / DENOISER, lambda held: held | {"proj_out.weight.absmax": torch.ones(3)})
    refused(folder, "quantised", "proj_out.weight.absmax")


@pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
def test_a_quantised_config_is_called_so(folder: Path, part: str) -> None:
    change_json(folder / part / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    refused(folder, part, "quantised", "bitsandbytes", "bf16")


@pytest.mark.parametrize(
    ("part", "said"),
    [("text_encoder", {"model_type": "llama"}), ("transformer", {"_class_name": "FluxTransformer2DModel"})],
)
def test_a_config_of_another_class_is_refused(folder: Path, part: str, said: dict[str, str]) -> None:
    change_json(folder / part / "config.json", **said)
    refused(folder, part, "another class", *said.values())


def test_a_config_that_makes_no_model_is_refused(folder: Path) -> None:
    change_json(folder / "transformer" / "config.json", num_attention_heads="many")
    refused(folder, "transformer", "config.json makes no QwenImage21Transformer2DModel")


@pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
def test_a_number_of_layers_beyond_all_tensors_is_refused_at_once(folder: Path, part: str) -> None:
    file = folder / part / "config.json"
    config = json.loads(file.read_text())
    if part == "text_encoder":
        config["text_config"]["num_hidden_layers"] = 10**9
    else:
        config["num_layers" if part == "transformer" else "num_res_blocks"] = 10**9
    file.write_text(json.dumps(config))
    refused(folder, part, "1,000,000,000", "tensors altogether")


def test_a_scheduler_that_cannot_be_made_is_refused(folder: Path) -> None:
    change_json(folder / "scheduler" / "scheduler_config.json", shift="wide", use_dynamic_shifting=False)
    refused(folder, "scheduler_config.json makes no FlowMatchEulerDiscreteScheduler")


OTHER = ["diffusers", "AutoencoderKL"]


@pytest.mark.parametrize("part", ["text_encoder", "vae", "processor", "scheduler", "transformer"])
@pytest.mark.parametrize("entry", [[None, None], None, "vae", ["transformers", "Nobody"], OTHER])
def test_the_index_names_every_component(folder: Path, part: str, entry: object) -> None:
    if entry == OTHER and part in ("processor", "scheduler"):
        pytest.skip("the class of a part without weights is the pipeline's own to check")
    change_json(folder / "model_index.json", **{part: entry})
    refused(folder, part, "model_index.json")


def shards_of(folder: Path) -> Path:
    """Divides the transformer's weights, and returns the index."""
    tiny_qwen_image_21.qwen_image_21_pipeline().transformer.save_pretrained(
        folder / "transformer", max_shard_size="200KB"
    )
    (folder / DENOISER).unlink(missing_ok=True)
    return folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"


def test_a_stale_index_is_refused(folder: Path) -> None:
    index = shards_of(folder)
    listed = json.loads(index.read_text())["weight_map"]
    name = next(iter(listed))
    change_json(index, weight_map={n: file for n, file in listed.items() if n != name})
    refused(folder, "index.json", "is not of the files beside it", name)
    change_json(index, weight_map=listed | {"gone.weight": listed[name]})
    refused(folder, "gone.weight", "no file")
    change_json(index, weight_map=listed | {name: "../elsewhere.safetensors"})
    refused(folder, "index.json", "weight_map")


def test_two_savings_over_each_other_are_refused(folder: Path) -> None:
    whole = (folder / DENOISER).read_bytes()
    shards_of(folder)
    (folder / DENOISER).write_bytes(whole)
    refused(folder, "transformer", "beside", "older one")


@pytest.mark.parametrize("change", [{"dtype": "F64"}, {"shape": [1]}, {"data_offsets": [0, 4]}])
def test_a_header_that_contradicts_itself_is_refused(folder: Path, change: dict[str, Any]) -> None:
    content = (folder / DECODER).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = sorted(header.keys() - {"__metadata__"})[3]
    header[name] |= change
    text = json.dumps(header).encode()
    (folder / DECODER).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    refused(folder, "vae", "contradicts itself")


def test_a_header_that_is_no_safetensors_is_refused(folder: Path) -> None:
    for entry in ({}, {"dtype": "F32", "shape": [1], "data_offsets": [0]}, 3, {"dtype": "F32", "shape": [-1]}):
        text = json.dumps({"a": entry}).encode()
        (folder / DECODER).write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        refused(folder, "vae", "not a whole safetensors file")
