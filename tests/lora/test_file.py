"""LoRA files as people have them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewstep.lora.file import read_lora
from fewstep.runtime.errors import AdapterError
from tests.train.tiny_model import normal

A, B = normal(4, 6, name="a"), normal(5, 4, name="b")


def write_lora(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, path, metadata=metadata)
    return path


KEYS = {
    "diffusers": ("transformer.{m}.lora_A.weight", "transformer.{m}.lora_B.weight"),
    "peft": ("base_model.model.{m}.lora_A.weight", "base_model.model.{m}.lora_B.weight"),
    "comfy": ("diffusion_model.{m}.lora_A.weight", "diffusion_model.{m}.lora_B.weight"),
    "down and up": ("transformer.{m}.lora_down.weight", "transformer.{m}.lora_up.weight"),
    "bare": ("{m}.lora_A.default.weight", "{m}.lora_B.default.weight"),
}


@pytest.mark.parametrize("names", KEYS.values(), ids=KEYS)
def test_keys_of_all_programs_name_the_same_module(tmp_path: Path, names: tuple[str, str]) -> None:
    module = "transformer_blocks.0.attn.to_out.0"
    tensors = {name.format(m=module): value for name, value in zip(names, (A, B), strict=True)}
    found = read_lora(write_lora(tmp_path / "x.safetensors", tensors))
    assert list(found) == [module]
    torch.testing.assert_close(found[module].a, A)
    torch.testing.assert_close(found[module].b, B)
    assert found[module].alpha == 4  # no alpha anywhere: as many as the rank, a scale of 1


def pair(module: str) -> dict[str, torch.Tensor]:
    return {f"transformer.{module}.lora_A.weight": A, f"transformer.{module}.lora_B.weight": B}


def test_alpha_of_a_module_is_that_of_its_tensor(tmp_path: Path) -> None:
    tensors = pair("x") | {"transformer.x.alpha": torch.tensor(2.0)}
    assert read_lora(write_lora(tmp_path / "x.safetensors", tensors))["x"].alpha == 2


def test_alpha_of_diffusers_metadata(tmp_path: Path) -> None:
    config = {"transformer.r": 4, "transformer.lora_alpha": 16, "transformer.alpha_pattern": {"^y.z": 1.0}}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    found = read_lora(write_lora(tmp_path / "x.safetensors", pair("x") | pair("y.z"), metadata))
    assert (found["x"].alpha, found["y.z"].alpha) == (16, 1)


def test_alpha_of_a_peft_folder(tmp_path: Path) -> None:
    write_lora(tmp_path / "adapter_model.safetensors", pair("x"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "use_rslora": True}))
    assert read_lora(tmp_path)["x"].alpha == pytest.approx(8 * 4**0.5)  # alpha / sqrt(rank) = alpha sqrt(rank) / rank


@pytest.mark.parametrize("prefix", ["", "transformer.", "diffusion_model.", "model.diffusion_model."])
def test_prefixes_of_programs_are_no_part_of_a_module(tmp_path: Path, prefix: str) -> None:
    tensors = {key.replace("transformer.", prefix): value for key, value in pair("model.x").items()}
    assert set(read_lora(write_lora(tmp_path / "x.safetensors", tensors))) == {"model.x"}


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_transformer_", "lycoris_"])
def test_flat_names_of_programs(tmp_path: Path, prefix: str) -> None:
    tensors = {
        f"{prefix}x_y.lora_down.weight": A,
        f"{prefix}x_y.lora_up.weight": B,
        f"{prefix}x_y.alpha": A.new_ones(()),
    }
    assert read_lora(write_lora(tmp_path / "x.safetensors", tensors))["x_y"].alpha == 1.0


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    write_lora(tmp_path / "whatever.safetensors", pair("x"))
    assert set(read_lora(tmp_path)) == {"x"}
    write_lora(tmp_path / "another.safetensors", pair("x"))
    with pytest.raises(AdapterError, match="more than one LoRA"):
        read_lora(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"transformer.x.lora_A.weight": A}, "not its partner"),
        (pair("x") | {"transformer.x.lora_magnitude_vector": A}, "DoRA"),
        (pair("x") | {"transformer.x.weight": A}, "not a LoRA"),
        ({"transformer.x.lora_A.weight": A, "transformer.x.lora_B.weight": B[:, :2]}, "do not multiply"),
        ({"transformer.x.lora_A.weight": A, "transformer.x.lora_B.weight": B * torch.inf}, "not finite"),
        ({"transformer.x.lora_A.weight": A[:0], "transformer.x.lora_B.weight": B[:, :0]}, "rank 0"),
        ({"transformer.x.alpha": torch.tensor(1.0)}, "no LoRA factors"),
    ],
    ids=["half", "dora", "whole weights", "ranks", "infinite", "rank 0", "empty"],
)
def test_what_is_no_lora_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        read_lora(write_lora(tmp_path / "x.safetensors", tensors))


def test_torn_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="holds no LoRA"):
        read_lora(tmp_path / "nowhere")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(AdapterError, match="cannot be read"):
        read_lora(tmp_path / "torn.safetensors")
