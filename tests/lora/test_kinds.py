"""Adapters that are no plain LoRA, or no update of their base: refused by name. peft itself makes those that it can."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fewstep.backbones.stock import QwenImage21Pipeline
from fewstep.lora.factors import merged
from fewstep.lora.file import read_lora
from fewstep.lora.keys import to_diffusers_names
from fewstep.runtime import torchvision_pair
from fewstep.runtime.errors import AdapterError
from tests.train.tiny_model import normal

torchvision_pair.ensure()

from peft import LoraConfig, get_peft_model, get_peft_model_state_dict  # noqa: E402 - needs what was made sure of

A, B = normal(4, 6, name="a"), normal(5, 4, name="b")
PAIR = {"transformer.x.lora_A.weight": A, "transformer.x.lora_B.weight": B}
BASE = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 5))
SHAPES = {"0": (8, 6), "1": (5, 8)}


def trained(folder: Path, begun: Any, **more: Any) -> tuple[Any, Path]:
    """A peft model after something like training, its base included, and its adapter's folder."""
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["0", "1"], init_lora_weights=begun, **more)
    model = get_peft_model(copy.deepcopy(BASE), config)
    first = copy.deepcopy(model)
    first.peft_config["default"].init_lora_weights = True  # as peft asks of the adapter before training
    first.save_pretrained(folder / "before")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data += 0.1 * normal(*parameter.shape, name=name)
    model.save_pretrained(folder / "after")
    return model, folder / "after"


@pytest.mark.filterwarnings("ignore:.*changes the base weights of the model")  # peft, of two adapters on one model
@pytest.mark.parametrize(("begun", "words"), [("pissa", "PiSSA"), ("pissa_niter_4", "PiSSA"), ("olora", "OLoRA")])
def test_an_adapter_of_a_changed_base_is_refused_and_its_conversion_read(
    tmp_path: Path, begun: str, words: str
) -> None:
    """What peft's own conversion saves is a LoRA of twice the rank, which makes the trained model of the base."""
    model, folder = trained(tmp_path, begun)
    with pytest.raises(AdapterError, match=rf"is a {words} adapter .*path_initial_model_for_weight_conversion"):
        read_lora(folder)
    model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "before"))
    updates = to_diffusers_names(read_lora(tmp_path / "converted"), SHAPES, "converted")
    assert {(update.rank, update.scale) for update in updates.values()} == {(4, 2.0)}
    whole = model.merge_and_unload()
    for name, update in updates.items():
        weight = BASE.get_submodule(name).weight
        torch.testing.assert_close(merged(weight, update, name), whole.get_submodule(name).weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("begun", [True, "gaussian", "orthogonal"])
def test_other_ways_to_begin_leave_the_base_as_it_is(tmp_path: Path, begun: Any) -> None:
    model, folder = trained(tmp_path, begun)
    whole = model.merge_and_unload()
    for name, update in to_diffusers_names(read_lora(folder), SHAPES, "x").items():
        weight = BASE.get_submodule(name).weight
        torch.testing.assert_close(merged(weight, update, name), whole.get_submodule(name).weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("saved_by", ["peft", "diffusers"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_strength_of_each_module_is_pefts_own(tmp_path: Path, rslora: bool, saved_by: str) -> None:
    """With patterns and rsLoRA, in the files that the two libraries write with their whole configuration."""
    patterns = {"rank_pattern": {"^1": 3}, "alpha_pattern": {"1": 7}}
    model, folder = trained(tmp_path, True, use_rslora=rslora, **patterns)
    if saved_by == "diffusers":
        state = get_peft_model_state_dict(model)
        QwenImage21Pipeline.save_lora_weights(
            tmp_path / "stock",
            transformer_lora_layers={key.removeprefix("base_model.model."): value for key, value in state.items()},
            transformer_lora_adapter_metadata=model.peft_config["default"].to_dict(),
        )
        folder = tmp_path / "stock"
    found = {module: update.scale for module, update in read_lora(folder).items()}
    wanted = {module: model.base_model.model[int(module)].scaling["default"] for module in SHAPES}
    assert found == pytest.approx(wanted)
    assert len(set(wanted.values())) == 2


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"init_lora_weights": "corda"}, "CorDA adapter .*save_pretrained"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA adapter .*save_pretrained"),
        ({"init_lora_weights": "loftq"}, "LoftQ adapter .*Only the merged model"),
        ({"init_lora_weights": "tomorrow"}, "'tomorrow' .*not known here"),
        ({"use_dora": True}, "is DoRA"),
        ({"use_qalora": True}, "is QA-LoRA"),
        ({"peft_type": "LOHA"}, "of type LOHA .*no LoRA"),
        ({"layer_replication": [[0, 2]]}, "replicated layers"),
    ],
    ids=str,
)
def test_a_configuration_of_another_kind_is_refused(tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    """In peft's file beside the weights, and in diffusers' header."""
    config = {"r": 4, "lora_alpha": 4, "peft_type": "LORA"} | stated
    save_file(PAIR, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match=words):
        read_lora(tmp_path)
    header = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in config.items()})}
    save_file(PAIR, tmp_path / "x.safetensors", header)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=words):
        read_lora(tmp_path / "x.safetensors")


def test_a_header_of_flat_keys_names_its_kind_too(tmp_path: Path) -> None:
    save_file(PAIR, tmp_path / "x.safetensors", {"transformer.init_lora_weights": "pissa_niter_16"})
    with pytest.raises(AdapterError, match="PiSSA"):
        read_lora(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("transformer.x.lora_magnitude_vector", "is a DoRA"),
        ("lora_unet_x.dora_scale", "is a DoRA"),
        ("lora_unet_x.hada_w1_a", "is a LoHa"),
        ("lora_unet_x.lokr_w1", "is a LoKr"),
        ("transformer.x.oft_blocks", "is an OFT"),
        ("transformer.x.lora_B.bias", "not a LoRA of .*biases"),
        ("diffusion_model.x.diff", "not a LoRA of"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "the text encoder too"),
        ("transformer.x.lora_A.scale_weight", "is a scaled fp8 LoRA"),
        ("lora_unet_x.lora_up.weight_scale", "is a scaled fp8 LoRA"),
        ("diffusion_model.x.lora_B.comfy_quant", "is a scaled fp8 LoRA"),
        ("scaled_fp8", "is a scaled fp8 LoRA"),
    ],
)
def test_keys_of_other_kinds_are_named(tmp_path: Path, key: str, words: str) -> None:
    save_file(PAIR | {key: torch.ones(4)}, tmp_path / "x.safetensors")
    with pytest.raises(AdapterError, match=words) as refused:
        read_lora(tmp_path / "x.safetensors")
    assert key in str(refused.value)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16])
def test_fp8_is_read_in_float(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {name: (value / 4).to(dtype) for name, value in PAIR.items()}
    save_file(stored | {"transformer.x.alpha": torch.tensor(8.0).to(dtype)}, tmp_path / "x.safetensors")
    update = read_lora(tmp_path / "x.safetensors")["x"]
    assert update.a.dtype == (torch.float32 if dtype.itemsize == 1 else dtype)
    assert update.scale == 2.0
    assert torch.equal(update.a.float(), stored["transformer.x.lora_A.weight"].float())
    torch.testing.assert_close(merged(torch.zeros(5, 6), update, "x"), update.delta())
    bad = {name: torch.full(value.shape, torch.nan).to(dtype) for name, value in stored.items()}
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(AdapterError, match="not finite"):
        read_lora(tmp_path / "bad.safetensors")


def test_integers_are_quantised_and_refused(tmp_path: Path) -> None:
    save_file({name: value.char() for name, value in PAIR.items()}, tmp_path / "x.safetensors")
    with pytest.raises(AdapterError, match=r"x\.lora_A\.weight is stored as int8, quantised"):
        read_lora(tmp_path / "x.safetensors")
