"""A user's LoRA on every other family: each program's file, as teacher, as the student's start, and merged into its own
weights. Qwen-Image-2.1 has `test_lora_teachers.py` and `test_init_from.py`.

What ComfyUI and kohya call the layers is written out here by hand, and shares nothing with `fewstep.lora`.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.z_image import ZImage
from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors, merged
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from tests.roles.test_lora_teachers import ALPHA, RANK, diffusers, peft
from tests.train.tiny_model import normal

Updates = dict[str, Factors]
FAMILIES: dict[str, Callable[[], Backbone]] = {
    "qwen-image": QwenImage.tiny,
    "flux2-klein": Flux2Klein.tiny,
    "z-image": ZImage.tiny,
    "longcat-image": LongCatImage.tiny,
    "flux3-klein": Flux3Klein.tiny,
}
LAYERS = {
    "qwen-image": r"transformer_blocks\.\d+\.(attn\.(to_q|add_k_proj|to_out\.0)|img_mlp\.net\.0\.proj|txt_mlp\.net\.2)",
    "flux2-klein": r"(transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_add_out)|ff\.linear_in|ff_context\.linear_out)"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out))",
    "z-image": r"(layers|noise_refiner)\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[12])",
    "longcat-image": r"(transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_add_out)|ff\.net\.0\.proj|ff_context\.net\.2)"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out))",
    "flux3-klein": r"((mode_blocks\.image|txt_mode_blocks|single_transformer_blocks)\.\d+"
    r"\.(attn\.(to_[qkv]|to_out\.0)|ff\.linear_in|ff\.linear_out))",
}
KLEIN = {  # one to one
    "attn.to_add_out": "txt_attn.proj",
    "ff.linear_in": "img_mlp.0",
    "ff_context.linear_out": "txt_mlp.2",
    "attn.to_qkv_mlp_proj": "linear1",
    "attn.to_out": "linear2",
    "ff.net.0.proj": "img_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
    "proj_out": "linear2",
}
FLUX3 = {  # one to one, none fused
    **{f"attn.to_{part}": f"{part}_proj" for part in "qkv"},
    "attn.to_out.0": "attn_out",
    "ff.linear_in": "mlp_in",
    "ff.linear_out": "mlp_out",
}
FLUX3_BLOCKS = {
    "mode_blocks": "content_mode_blocks",
    "txt_mode_blocks": "txt_mode_blocks",
    "single_transformer_blocks": "single_blocks",
}


def update(backbone: Backbone, family: str) -> Updates:
    return {
        name: Factors(
            0.2 * normal(RANK, module.in_features, name=f"{name} a"),
            0.2 * normal(module.out_features, RANK, name=f"{name} b"),
            ALPHA,
        )
        for name, module in backbone.transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and re.fullmatch(LAYERS[family], name)
    }


def native(updates: Updates) -> Updates:
    """As ComfyUI's model has the layers: queries, keys and values are one, in block form; with the first layer of the
    MLP in LongCat-Image's single blocks."""
    found: Updates = {}
    if any(name.startswith("txt_mode_blocks") for name in updates):
        return {makers_flux3(name): one for name, one in updates.items()}
    for name, one in updates.items():
        kind, number, layer = re.findall(r"^(\w+)\.(\d+)\.(.+)$", name)[0]
        if "attention" in layer or "feed_forward" in layer:  # Z-Image
            place = f"{kind}.{number}"
            if layer == "attention.to_q":
                found[f"{place}.attention.qkv"] = fused(updates, [f"{place}.attention.to_{part}" for part in "qkv"])
            elif not layer.startswith("attention.to_") or layer == "attention.to_out.0":
                found[name.replace("to_out.0", "out")] = one
            continue
        block = f"{'single' if kind.startswith('single') else 'double'}_blocks.{number}"
        if layer in KLEIN:
            found[f"{block}.{KLEIN[layer]}"] = one
        elif layer == "attn.to_q":
            parts = [f"{kind}.{number}.attn.to_{part}" for part in "qkv"]
            if kind.startswith("single"):
                found[f"{block}.linear1"] = fused(updates, [*parts, f"{kind}.{number}.proj_mlp"])
            else:
                found[f"{block}.img_attn.qkv"] = fused(updates, parts)
    return found


def makers_flux3(name: str) -> str:
    kind, place, layer = re.findall(r"^(\w+)\.((?:image\.)?\d+)\.(.+)$", name)[0]
    return f"{FLUX3_BLOCKS[kind]}.{place}.{FLUX3[layer]}"


def fused(updates: Updates, names: list[str]) -> Factors:
    parts = [updates[name] for name in names]
    a, b = torch.cat([part.a for part in parts]), torch.block_diag(*(part.b for part in parts))
    return Factors(a, b, len(parts) * ALPHA)


def renames(updates: Updates) -> bool:
    return any(m.startswith(("single", "layers")) for m in updates)


def comfyui(updates: Updates, file: Path) -> None:
    own = native(updates) if renames(updates) else updates
    tensors = {}
    for m, f in own.items():
        tensors |= {f"diffusion_model.{m}.lora_A.weight": f.a, f"diffusion_model.{m}.lora_B.weight": f.b}
        tensors[f"diffusion_model.{m}.alpha"] = torch.tensor(f.alpha)
    save_file(tensors, file)


def kohya(updates: Updates, file: Path) -> None:
    own = native(updates) if renames(updates) else updates
    tensors = {}
    for m, f in own.items():
        flat = "lora_unet_" + m.replace(".", "_")
        tensors |= {f"{flat}.lora_down.weight": f.a, f"{flat}.lora_up.weight": f.b}
        tensors[f"{flat}.alpha"] = torch.tensor(f.alpha)
    save_file(tensors, file)


def velocity(backbone: Backbone, network: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Of one prompt at t = 0.6."""
    (cond,) = backbone.encode(["a red boat"], None, (64, 64))
    z_BND = normal(1, *backbone.noise_shape(cond.layout))
    with torch.no_grad():
        return network(z_BND, torch.tensor([0.6]), cond)


@pytest.mark.parametrize("use", ["teacher", "adapter", "full"])
@pytest.mark.parametrize("write", [diffusers, peft, comfyui, kohya], ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_users_lora_is_its_merged_weights(
    family: str, write: Callable[[Updates, Path], None], use: str, tmp_path: Path
) -> None:
    backbone, expected = FAMILIES[family](), FAMILIES[family]()
    updates, file = update(backbone, family), tmp_path / "adapter.safetensors"
    write(updates, file)
    plain = velocity(expected, lambda *given: expected.velocity(expected.transformer, *given))
    with torch.no_grad():
        for m, f in updates.items():
            weight = expected.transformer.get_submodule(m).weight
            weight.copy_(merged(weight, f, m))
    wanted = velocity(expected, lambda *given: expected.velocity(expected.transformer, *given))
    assert (wanted - plain).abs().max() > 1e-3

    teachers = {"preset": "specialised-alone", "named": {"style": {"adapter": str(file)}}} if use == "teacher" else {}
    plan = {"mode": "full" if use == "full" else "adapter", "adapter": {"rank": RANK, "alpha": 4.0}}
    plan |= {} if use == "teacher" else {"init_from": str(file)}
    roles = build_roles(
        backbone,
        RolesSpec(StudentPlan.model_validate(plan), CriticPlan(), TeachersSpec.model_validate(teachers), 1),
        NamedRNG(0),
    )
    asked = roles.teachers.teachers["style"].network if use == "teacher" else roles.student
    torch.testing.assert_close(velocity(backbone, asked.velocity), wanted, rtol=0, atol=1e-5)
    if use != "teacher":
        torch.testing.assert_close(velocity(backbone, roles.critic.velocity), plain, rtol=0, atol=1e-5)
