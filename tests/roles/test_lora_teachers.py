"""A LoRA teacher is the base with its update merged, whichever program wrote the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fewstep.flow.rng import NamedRNG
from fewstep.lora.factors import Factors, merged
from fewstep.lora.file import read_lora
from fewstep.lora.keys import (
    lora_key,
    parse_key,
    to_diffusers_names,
)
from fewstep.roles.build import RolesSpec, build_roles
from fewstep.roles.plan import (
    CriticPlan,
    StudentPlan,
    TeachersSpec,
)
from fewstep.roles.step_index import StepIndex
from fewstep.runtime.errors import AdapterError
from tests.train.tiny_model import batch, normal, tiny

RANK, ALPHA = 3, 1.5
T = torch.tensor([0.7, 0.3])
Tensors = dict[str, Tensor]


def linear_shapes() -> dict[str, tuple[int, ...]]:
    modules = tiny().transformer.named_modules()
    return {name: tuple(m.weight.shape) for name, m in modules if isinstance(m, torch.nn.Linear)}


def update(rank: int = RANK) -> dict[str, Factors]:
    """Attention and MLP of both blocks."""
    shapes = {n: s for n, s in linear_shapes().items() if n.endswith(("to_q", "to_out.0", "gate_layer", "proj", "out"))}
    return {
        m: Factors(0.2 * normal(rank, shape[1], name=f"{m} a"), 0.2 * normal(shape[0], rank, name=f"{m} b"), ALPHA)
        for m, shape in shapes.items()
        if m.startswith("transformer_blocks")
    }


def diffusers(update: dict[str, Factors], file: Path) -> None:
    tensors = {}
    for m, f in update.items():
        tensors |= {f"transformer.{m}.lora_A.weight": f.a, f"transformer.{m}.lora_B.weight": f.b}
    config = {"transformer.r": RANK, "transformer.lora_alpha": ALPHA}
    save_file(tensors, file, metadata={"lora_adapter_metadata": json.dumps(config)})


def peft(update: dict[str, Factors], file: Path) -> None:
    tensors = {}
    for m, f in update.items():
        tensors |= {f"base_model.model.{m}.lora_A.weight": f.a, f"base_model.model.{m}.lora_B.weight": f.b}
    save_file(tensors, file)
    file.with_name("adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))


def native(update: dict[str, Factors]) -> dict[str, Factors]:
    """As programs have it that train on ComfyUI's files: gate and proj fused, gate rows first, in block form - A one
    above the other, B block-diagonal - so the rank doubles, and alpha with it."""
    found = {m: f for m, f in update.items() if not m.endswith(("gate_layer", "img_mlp.proj"))}
    for m, gate in update.items():
        if m.endswith("gate_layer"):
            proj = update[m.replace("gate_layer", "proj")]
            fused = Factors(torch.cat([gate.a, proj.a]), torch.block_diag(gate.b, proj.b), 2 * ALPHA)
            found[m.replace("gate_layer", "gate_up")] = fused
    return found


def comfyui(update: dict[str, Factors], file: Path) -> None:
    tensors = {}
    for m, f in native(update).items():
        tensors |= {f"diffusion_model.{m}.lora_A.weight": f.a, f"diffusion_model.{m}.lora_B.weight": f.b}
        tensors[f"diffusion_model.{m}.alpha"] = torch.tensor(f.alpha)
    save_file(tensors, file)


def kohya(update: dict[str, Factors], file: Path) -> None:
    tensors = {}
    for m, f in native(update).items():
        flat = "lora_unet_" + m.replace(".", "_")
        tensors |= {f"{flat}.lora_down.weight": f.a, f"{flat}.lora_up.weight": f.b}
        tensors[f"{flat}.alpha"] = torch.tensor(f.alpha)
    save_file(tensors, file)


WRITERS: list[Callable[[dict[str, Factors], Path], None]] = [diffusers, peft, comfyui, kohya]


@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_a_lora_teacher_is_its_merged_weights(
    write: Callable[[dict[str, Factors], Path], None], tmp_path: Path
) -> None:
    write(update(), tmp_path / "adapter.safetensors")
    named = {"style": {"adapter": str(tmp_path / "adapter.safetensors")}}
    spec = TeachersSpec.model_validate({"preset": "specialised-alone", "named": named})
    roles = build_roles(tiny(), RolesSpec(StudentPlan(), CriticPlan(), spec, 1), NamedRNG(0))
    merged_one, plain = tiny(), tiny()
    with torch.no_grad():
        for m, f in update().items():
            weight = merged_one.transformer.get_submodule(m).weight
            weight.copy_(merged(weight, f, m))
        for i in (0, 1):  # text to image, then an edit
            z, teacher_batch = normal(2, 4, 8), batch(i)
            v = roles.teachers.velocity(z, T, teacher_batch, StepIndex(0, 0))
            expected = merged_one.velocity(merged_one.transformer, z, T, teacher_batch.cond)
            torch.testing.assert_close(v, expected, rtol=0, atol=1e-5)
            assert (v - plain.velocity(plain.transformer, z, T, teacher_batch.cond)).abs().max() > 1e-2


def test_memory_grows_by_the_adapter_alone(tmp_path: Path) -> None:
    diffusers(update(), tmp_path / "x.safetensors")
    sizes = []
    for named in ({}, {"style": {"adapter": str(tmp_path / "x.safetensors")}}):
        spec = TeachersSpec.model_validate({"preset": "step-wise" if named else "base-only", "named": named})
        roles = build_roles(tiny(), RolesSpec(StudentPlan(), CriticPlan(), spec, 1), NamedRNG(0))
        base = roles.student.transformer
        sizes.append(sum(p.numel() for p in base.parameters()) + sum(b.numel() for b in base.buffers()))
        assert {id(t.network.transformer) for t in roles.teachers.teachers.values()} == {id(base)}
    assert sizes[1] - sizes[0] == sum(f.a.numel() + f.b.numel() for f in update().values())


# ---- alpha that is not there


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_kohya_without_alpha_is_its_rank(alpha: float | None, tmp_path: Path) -> None:
    flat = "lora_unet_transformer_blocks_0_attn_to_q"
    tensors = {f"{flat}.lora_down.weight": torch.ones(RANK, 4), f"{flat}.lora_up.weight": torch.ones(4, RANK)}
    if alpha is not None:
        tensors[f"{flat}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "x.safetensors")
    assert read_lora(tmp_path / "x.safetensors")["transformer_blocks_0_attn_to_q"].alpha == RANK


def test_peft_without_alpha_is_pefts_default(tmp_path: Path) -> None:
    peft(update(), tmp_path / "x.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert {f.alpha for f in read_lora(tmp_path / "x.safetensors").values()} == {
        RANK
    }  # an empty config counts for nothing
    (tmp_path / "adapter_config.json").write_text('{"r": 3}')
    assert {f.alpha for f in read_lora(tmp_path / "x.safetensors").values()} == {8.0}


# ---- names


def test_every_written_key_is_read_back() -> None:
    for module in linear_shapes():
        for side in ("A", "B"):
            key = parse_key(lora_key(module, side))  # type: ignore[arg-type]
            assert key is not None
            assert (key.module, key.part) == (module, side)


def test_text_encoder_adapters_are_none_of_ours() -> None:
    assert parse_key("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight") is None


def test_ranks_may_differ_between_modules() -> None:
    """As rank patterns have it; within a module they may not."""
    given = {"transformer_blocks.0.attn.to_q": update(2), "transformer_blocks.1.attn.to_q": update(5)}
    given_ = {m: u[m] for m, u in given.items()}
    assert {f.rank for f in to_diffusers_names(given_, linear_shapes(), "x").values()} == {2, 5}


def test_what_the_base_lacks_is_named_and_counted() -> None:
    strange = {f"double_blocks.{i}.img_attn": Factors(torch.ones(1, 4), torch.ones(4, 1), 1.0) for i in range(5)}
    known = update()
    with pytest.raises(AdapterError, match=rf"x changes double_blocks\.0.*, \.\.\., .*\(5 of its {5 + len(known)}"):
        to_diffusers_names({**known, **strange}, linear_shapes(), "x")


def test_a_module_changed_twice_is_refused() -> None:
    gate = "transformer_blocks.0.img_mlp.gate_layer"
    fused = native(update())
    with pytest.raises(AdapterError, match="gate_layer twice"):
        to_diffusers_names({**fused, gate: update()[gate]}, linear_shapes(), "x")


@pytest.mark.parametrize("rows", [3, 400])
def test_a_fused_update_of_other_rows_is_refused(rows: int) -> None:
    name = "transformer_blocks.0.img_mlp.gate_up"
    wrong = Factors(torch.ones(1, 64), torch.ones(rows, 1), 1.0)
    with pytest.raises(AdapterError, match="another base"):
        to_diffusers_names({name: wrong}, linear_shapes(), "x")


# ---- files that are none


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / "lora.bin")
    torch.save({"x": torch.ones(1)}, tmp_path / "disguised.safetensors")
    for name in ("lora.bin", "disguised.safetensors"):
        with pytest.raises(AdapterError, match="pickle can run code"):
            read_lora(tmp_path / name)
    (tmp_path / "disguised.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"no LoRA \(pickled files such as lora\.bin are not opened\)"):
        read_lora(tmp_path)


def test_half_a_download_is_refused(tmp_path: Path) -> None:
    diffusers(update(), tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AdapterError, match="half a download"):
        read_lora(tmp_path / "x.safetensors")


def test_the_weights_of_one_beside_the_configuration_of_another(tmp_path: Path) -> None:
    peft(update(), tmp_path / "x.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 16, "lora_alpha": 16}')
    with pytest.raises(AdapterError, match="of rank 3, its configuration says 16"):
        read_lora(tmp_path / "x.safetensors")
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match="no JSON"):
        read_lora(tmp_path / "x.safetensors")
