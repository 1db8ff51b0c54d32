"""FLUX 3 Klein beyond the contract: the velocity to one part in a million, the folder, and the layer whose answer is
stored."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule

from fewstep.backbones.conditioning import stack
from fewstep.backbones.families import load_backbone, model_shapes
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.testing.tiny_flux3 import flux3_pipeline
from fewstep.roles.plan import CriticPlan, StudentPlan
from fewstep.roles.sharding import SHARD_AXIS, Sharded
from fewstep.roles.targets import target_modules
from fewstep.roles.validation import validate_targets
from fewstep.runtime.errors import ModelError, RecipeError
from fewstep.runtime.parallel import SINGLE_RANK
from tests.backbones.families import FAMILIES, LONG, Request, stock_call

FAMILY = next(family for family in FAMILIES if family.name == "flux3-klein")
ASKED = [
    Request("t2i", [LONG], (), (32, 48)),
    Request("one reference, padded", ["at night"], [(70, 41)], (48, 32)),
    Request("two of other shapes", ["both"], [(64, 32), (40, 90)], (64, 64)),
    Request("three", ["all"], [(64, 32), (40, 90), (33, 33)], (32, 32)),
]


@pytest.fixture(scope="module")
def tiny() -> Any:
    return Flux3Klein.tiny()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("flux3")
    flux3_pipeline().save_pretrained(to)
    return to


@pytest.mark.parametrize("scale", [1.0, 3.5], ids=["plain", "guided"])
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.name)
def test_the_velocity_is_the_stock_calls_to_a_millionth(tiny: Any, asked: Request, scale: float) -> None:
    guided = FAMILY.guided(scale, ["blurry"])
    steps, _ = stock_call(FAMILY, tiny, asked, num_inference_steps=2, **guided)
    cond = asked.conditioning(tiny)
    null = Request("null", ["blurry"], asked.shapes, asked.size).conditioning(tiny)
    for step in steps:
        v, v_u = (tiny.velocity(tiny.transformer, step.z_BND, step.t_B, each) for each in (cond, null))
        # uncond + w (cond - uncond)
        error = (v_u + scale * (v - v_u) - step.v_BND).norm() / step.v_BND.norm()
        assert float(error) <= 1e-6


def test_the_layer_that_texts_pass_first_does_not_learn(tiny: Any, folder: Path) -> None:
    linears = model_shapes(folder).linear_shapes
    assert "context_embedder" in linears
    assert "context_embedder" not in target_modules("all", tiny, linears)
    named = StudentPlan.model_validate({"adapter": {"targets": ["attn.to_q", "context_emb*"]}})
    with pytest.raises(RecipeError, match=r"student\.adapter\.targets: 'context_emb\*' is context_embedder of flux3"):
        validate_targets(named, CriticPlan(), str(folder))
    tiny.transformer.requires_grad_(True)
    cond = ASKED[1].conditioning(tiny)
    z_BND = torch.ones(1, *tiny.noise_shape(cond.layout))
    tiny.velocity(tiny.transformer, z_BND, torch.tensor([0.5]), cond).sum().backward()
    without = {name for name, parameter in tiny.transformer.named_parameters() if parameter.grad is None}
    tiny.transformer.requires_grad_(False).zero_grad()
    assert without == {"context_embedder.weight"}


def test_a_folder_as_the_blocks_save_it(folder: Path, tmp_path: Path) -> None:
    """Without a scheduler, with a null class beside a loading specification, and with the upsampler."""
    flux3_pipeline().save_pretrained(tmp_path)
    for file in (tmp_path / "scheduler").iterdir():
        file.unlink()
    (tmp_path / "scheduler").rmdir()
    index = json.loads((tmp_path / "modular_model_index.json").read_text())
    del index["scheduler"]
    index["vae"][:2] = [None, None]
    index["prompt_upsampler"] = ["transformers", "Qwen3_5ForConditionalGeneration", {"subfolder": None}]
    (tmp_path / "modular_model_index.json").write_text(json.dumps(index))
    backbone = load_backbone(tmp_path, dtype=torch.float32)
    assert list(backbone.sampling_grid(4, (4, 4))) == pytest.approx([1, 0.954, 0.874, 0.698], abs=5e-4)
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler", {"subfolder": "scheduler"}]
    (tmp_path / "modular_model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"scheduler_config\.json is missing"):
        load_backbone(tmp_path)


def test_sharded_weights_answer_and_learn_alike(tiny: Any, tmp_path: Path) -> None:
    """Its blocks are in dicts by kind: each is sharded alone, those that text to image never calls too."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,), mesh_dim_names=(SHARD_AXIS,))
        copy = Sharded(mesh, SINGLE_RANK, torch.device("cpu")).masters(tiny.transformer, {})
        units = {name for name, module in copy.named_modules() if isinstance(module, FSDPModule)}
        assert {"mode_blocks.image.0", "mode_blocks.image_cond.0", "txt_mode_blocks.0"} < units
        copy.enable_gradient_checkpointing()
        for asked in (ASKED[0], ASKED[2]):
            cond = stack(tiny.encode([*asked.prompts, ""], asked.references or None, asked.size))
            z_BND, t_B = torch.ones(2, *tiny.noise_shape(cond.layout)), torch.tensor([0.3, 0.9])
            want = tiny.velocity(tiny.transformer, z_BND, t_B, cond)
            v_BND = tiny.velocity(copy, z_BND, t_B, cond)
            torch.testing.assert_close(v_BND, want, rtol=0, atol=1e-6)
            copy.zero_grad()
            v_BND.square().mean().backward()
            idle = {name.split(".")[0] for name, p in copy.named_parameters() if p.grad is None}
            only_edits = {"early_stream_modulations", "single_stream_modulations", "x_embedders", "mode_blocks"}
            assert idle == {"context_embedder", *(() if asked.shapes else only_edits)}
    finally:
        dist.destroy_process_group()
