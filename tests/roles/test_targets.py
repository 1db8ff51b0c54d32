"""Which layers an adapter is on (`adapter.targets`), on every family: who learns, what ships, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.backbone import Backbone
from fewstep.backbones.conditioning import stack
from fewstep.backbones.families import load_backbone
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.qwen_image import QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.lora import Lora, write_comfyui_lora, write_lora, write_plain_lora
from fewstep.flow.rng import NamedRNG
from fewstep.lora.comfyui_layout import comfyui_modules
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import AdapterPlan, CriticPlan, StudentPlan, Targets, TeachersSpec
from fewstep.roles.roles import Roles
from fewstep.roles.targets import target_modules
from fewstep.roles.validation import validate_targets
from fewstep.run.recipe import load_recipe
from fewstep.runtime.errors import RecipeError
from tests.export.comfyui_reader import merged_as_comfyui
from tests.train.tiny_model import normal

FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen-image-2.1": QwenImage21.tiny,
    "qwen-image": QwenImage.tiny,
    "flux2-klein": Flux2Klein.tiny,
}
CHOICES: list[Targets] = ["attention", "attention+mlp", "all", ("to_q", "proj_out")]
BESIDE = {  # modulation and time embedding, by family
    "qwen-image-2.1": ("modulation.1", "time_text_embed.timestep_embedder.linear_1"),
    "qwen-image": ("transformer_blocks.0.img_mod.1", "time_text_embed.timestep_embedder.linear_2"),
    "flux2-klein": ("double_stream_modulation_img.linear", "time_guidance_embed.timestep_embedder.linear_1"),
}
T = torch.tensor([0.6])


def roles_of(backbone: Backbone, student: Targets, critic: Targets = "attention+mlp", **execution: Any) -> Roles:
    plans = [AdapterPlan(rank=2, alpha=3.0, targets=targets) for targets in (student, critic)]
    spec = RolesSpec(StudentPlan(adapter=plans[0]), CriticPlan(adapter=plans[1]), TeachersSpec(), 4)
    return build_roles(backbone, spec, NamedRNG(0), Execution(**execution))


def learnt(roles: Roles) -> None:
    """As after some training: B away from zero."""
    with torch.no_grad():
        for name, weight in roles.student.named_parameters().items():
            if "lora_B" in name:
                weight.copy_(0.05 * NamedRNG(3).normal(weight.shape, name))


def modules_of(network: Any) -> set[str]:
    return {name.partition(".lora_")[0] for name in network.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_each_choice_names(family: str) -> None:
    backbone = FAMILIES[family]()
    linears = tuple(linear_shapes(backbone.transformer))
    attention, both, every = (set(target_modules(c, backbone, linears)) for c in CHOICES[:3] if isinstance(c, str))
    assert attention < both < every == set(linears) - set(backbone.encoded_layers)
    assert all(".attn." in name for name in attention)
    assert not any("mod" in name or "time" in name for name in both)
    assert set(BESIDE[family]) <= every - both
    assert target_modules(("*.attn.*",), backbone, linears) == sorted(n for n in linears if ".attn." in n)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_is_what_it_was(family: str) -> None:
    """The ends of names that peft matched before there was a key, and the same first weights."""
    backbone = FAMILIES[family]()
    ends = tuple(f".{end}" for end in backbone.lora_targets)
    before = {n for n in linear_shapes(backbone.transformer) if f".{n}".endswith(ends)}
    roles = roles_of(backbone, AdapterPlan.model_validate({}).targets)
    assert modules_of(roles.student) == modules_of(roles.critic) == before
    wide = roles_of(FAMILIES[family](), "all").student.named_parameters()
    for name, weight in roles.student.named_parameters().items():
        assert torch.equal(weight, wide[name]), "drawn by name, whatever else has an adapter"


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_its_loss_moves_its_own_layers_and_no_others(family: str, choice: Targets) -> None:
    backbone = FAMILIES[family]()
    cond = stack(backbone.encode(["a red boat"], None, (32, 32)))
    roles = roles_of(backbone, choice, "attention", gradient_checkpointing="full")
    learnt(roles)
    z = normal(1, *backbone.noise_shape(cond.layout))
    with roles.student.active():
        roles.student.velocity(z, T, cond).square().mean().backward()
    moved = {n for n, p in roles.student.named_parameters().items() if p.grad is not None and p.grad.any()}
    still = {n.partition(".lora_")[0] for n in roles.student.named_parameters().keys() - moved}
    # The last block's text is read by nobody, so no layer that only serves it can learn.
    assert all("add_" in n or "txt" in n or "context" in n for n in still), still
    assert modules_of(roles.student) == set(target_modules(choice, backbone, linear_shapes(backbone.transformer)))
    assert not any(p.grad is not None for p in roles.critic.parameters())
    assert not any(p.grad is not None for n, p in backbone.transformer.named_parameters() if ".lora_" not in n)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_file_is_the_student(family: str, choice: Targets, tmp_path: Path) -> None:
    """diffusers' own loader, and what ComfyUI and plain readers merge, answer as the student of the run."""
    backbone = FAMILIES[family]()
    cond = stack(backbone.encode(["a red boat"], None, (32, 32)))
    roles = roles_of(backbone, choice)
    learnt(roles)
    z = normal(1, *backbone.noise_shape(cond.layout))
    with torch.no_grad():
        wanted = roles.student.velocity(z, T, cond)
        lora = Lora.of(roles.student.state(), 3.0)

        stock = FAMILIES[family]()
        write_lora(lora, tmp_path)
        stock.pipeline.load_lora_weights(tmp_path)
        torch.testing.assert_close(stock.velocity(stock.transformer, z, T, cond), wanted, rtol=0, atol=2e-5)

        plain = FAMILIES[family]()
        shapes = linear_shapes(plain.transformer)
        write_plain_lora(lora, tmp_path / "plain.safetensors")
        weights = {name: weight.clone() for name, weight in plain.transformer.state_dict().items()}
        changed = merged_as_comfyui(tmp_path / "plain.safetensors", weights)
        plain.transformer.load_state_dict(weights | changed)
        torch.testing.assert_close(plain.velocity(plain.transformer, z, T, cond), wanted, rtol=0, atol=2e-5)

        write_comfyui_lora(lora, tmp_path / "comfyui.safetensors", shapes)
        theirs = {
            f"diffusion_model.{name}.weight": _fused(one, weights) for name, one in comfyui_modules(shapes).items()
        }
        now = merged_as_comfyui(tmp_path / "comfyui.safetensors", theirs)
        both = {
            f"diffusion_model.{name}.weight": _fused(one, weights | changed)
            for name, one in comfyui_modules(shapes).items()
        }
        assert set(now) == {name for name in both if not torch.equal(both[name], theirs[name])}
        for name, weight in now.items():
            torch.testing.assert_close(weight, both[name], rtol=0, atol=1e-5)


def _fused(one: Any, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    whole = torch.cat([weights[f"{part}.weight"] for part in one.parts])
    return torch.cat(whole.chunk(2)[::-1]) if one.swapped else whole


@pytest.mark.parametrize("pattern", ["to_qq", "transformer_blocks.0.atn.to_q", "img_modulate"])
def test_patterns_of_nothing_are_refused_with_near_names(pattern: str) -> None:
    recipe = load_recipe("pocket", {"critic.adapter.targets": ["to_v", pattern]})
    with pytest.raises(RecipeError, match=rf"critic\.adapter\.targets: .* '{pattern}'; nearest are \S"):
        validate_targets(recipe.student, recipe.critic, recipe.model)


@pytest.mark.parametrize("given", ["attn", [], [""], 3])
def test_what_is_no_choice_is_refused(given: Any) -> None:
    with pytest.raises(RecipeError, match=r"student\.adapter\.targets"):
        load_recipe("pocket", {"student.adapter.targets": given})


def test_a_start_beyond_the_targets_is_told_and_taken_in() -> None:
    """The pocket's editor changes attention and MLP."""
    recipe = load_recipe("pocket", {"student.adapter.targets": "attention"})
    further = validate_targets(recipe.student, recipe.critic, recipe.model)
    assert further
    assert all("img_mlp" in name for name in further)
    assert not validate_targets(load_recipe("pocket").student, recipe.critic, recipe.model)
    backbone = load_backbone("pocket", dtype=torch.float32, parts="transformer")
    spec = RolesSpec(recipe.student, CriticPlan(adapter=recipe.student.adapter), TeachersSpec(), 4)
    roles = build_roles(backbone, spec, NamedRNG(0))
    assert modules_of(roles.student) - modules_of(roles.critic) == set(further)


def test_a_lora_of_all_layers_is_a_start_again(tmp_path: Path) -> None:
    roles = roles_of(QwenImage21.tiny(), "all")
    learnt(roles)
    write_lora(Lora.of(roles.student.state(), 3.0), tmp_path)
    plan = AdapterPlan(rank=2, alpha=2.0, targets="all")
    file = str(tmp_path / "pytorch_lora_weights.safetensors")
    spec = RolesSpec(StudentPlan(init_from=file, adapter=plan), CriticPlan(adapter=plan), TeachersSpec(), 4)
    backbone = QwenImage21.tiny()
    cond = stack(backbone.encode(["a red boat"], None, (32, 32)))
    again = build_roles(backbone, spec, NamedRNG(0))
    z = normal(1, *backbone.noise_shape(cond.layout))
    with torch.no_grad():
        torch.testing.assert_close(
            again.student.velocity(z, T, cond), roles.student.velocity(z, T, cond), rtol=0, atol=2e-5
        )
