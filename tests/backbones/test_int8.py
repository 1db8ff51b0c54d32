"""A base in a byte a weight: what it answers, what goes through it, and what it keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.backbones.blocks import blocks
from fewstep.backbones.conditioning import Conditioning
from fewstep.backbones.families import load_backbone
from fewstep.backbones.int8 import (
    Int8Linear,
    dequantize,
    quantize,
    to_int8,
)
from fewstep.flow.rng import NamedRNG
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.compilation import compile_blocks
from fewstep.roles.plan import AdapterPlan
from fewstep.roles.recomputation import recompute
from fewstep.roles.targets import target_modules
from tests.backbones.families import EDIT, FAMILIES, Family, noise_for

EXACT = {"rtol": 0, "atol": 1e-6}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_is_off_by_half_a_level_of_its_row(dtype: torch.dtype) -> None:
    """A row of large weights costs its neighbours nothing; a row of zeros is one."""
    weight = drawn(6, 40) * torch.tensor([1.0, 100.0, 1e-3, 1.0, 0.0, 1e-20])[:, None]
    weight = weight.to(dtype)
    whole, scale = quantize(weight)
    assert (whole.dtype, scale.dtype, whole.abs().max()) == (torch.int8, dtype, 127)
    back = dequantize(whole, scale, torch.float32)
    off = (back - weight.float()).abs().amax(dim=1)
    assert (off <= 0.501 * scale.float()).all()
    assert (back[4] == 0).all()
    assert torch.isfinite(dequantize(whole, scale, dtype)).all()


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_the_product_with_the_rounded_weight(bias: bool) -> None:
    layer = nn.Linear(12, 7, bias=bias).requires_grad_(False)
    small = Int8Linear(layer)
    weight = dequantize(small.weight, small.scale, torch.float32)
    ours, theirs = (drawn(2, 5, 12).requires_grad_() for _ in range(2))
    answers = small(ours), functional.linear(theirs, weight, layer.bias)
    torch.testing.assert_close(*answers, **EXACT)
    for answer in answers:
        (answer * drawn(2, 5, 7, seed=1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **EXACT)
    with torch.autocast("cpu", torch.bfloat16):
        assert small(ours).dtype == torch.bfloat16


def test_only_bytes_are_saved_for_backward() -> None:
    small = Int8Linear(nn.Linear(64, 64).requires_grad_(False))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):  # type: ignore[func-returns-value]
        small(drawn(3, 64).requires_grad_())
    assert [x.dtype for x in kept if x.numel() == 64 * 64] == [torch.int8]
    assert len(kept) == 2, "and the scale"


# ---- a whole transformer


@pytest.fixture
def own(family: Family) -> Any:
    return family.make()


@pytest.fixture
def spread(own: Any) -> Any:
    """One whose blocks do something, as a trained one's do: tiny random weights leave the answer to the embeddings."""
    with torch.no_grad():
        for block in blocks(own.transformer):
            for parameter in block.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(3)
    return own


def asked(backbone: Any, cond: Conditioning) -> Tensor:
    return backbone.velocity(backbone.transformer, noise_for(backbone, cond), torch.full((len(cond),), 0.6), cond)


def test_the_blocks_alone_are_rounded_and_the_velocity_stays_near(spread: Any) -> None:
    cond = EDIT.within(spread).conditioning(spread)
    shapes, before = linear_shapes(spread.transformer), asked(spread, cond)
    to_int8(spread.transformer)
    inside = {id(m) for block in blocks(spread.transformer) for m in block.modules()}
    linear = [m for m in spread.transformer.modules() if isinstance(m, nn.Linear)]
    assert all((type(m) is Int8Linear) == (id(m) in inside) for m in linear)
    assert any(id(m) not in inside for m in linear)
    assert linear_shapes(spread.transformer) == shapes
    after = asked(spread, cond)
    assert not torch.equal(after, before)
    assert (after - before).norm() < 0.03 * before.norm()
    assert not any(p.requires_grad for p in spread.transformer.parameters())


# Warnings of torch as it traces; it hides them itself where warnings are no errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
@pytest.mark.parametrize("how", ["off", "full"])
def test_adapters_over_it_are_those_over_the_rounded_base(family: Family, how: str) -> None:
    """The same velocity and the same gradients as over a base of full size that has the rounded values."""
    _assert_as_over_the_rounded(family, how)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("how", ["selective", "compiled"])
def test_so_they_are_however_blocks_are_run(how: str) -> None:
    """A matter of the layer, not of the family: one is enough."""
    _assert_as_over_the_rounded(FAMILIES[0], how)


def _assert_as_over_the_rounded(family: Family, how: str) -> None:
    small, large = family.make(), family.make()
    to_int8(small.transformer)
    rounded_values = {n: m for n, m in small.transformer.named_modules() if isinstance(m, Int8Linear)}
    with torch.no_grad():
        for name, layer in rounded_values.items():
            weight = dequantize(layer.weight, layer.scale, torch.float32)
            large.transformer.get_parameter(f"{name}.weight").copy_(weight)
    cond = EDIT.within(large).conditioning(large)
    found = [_learnt(backbone, cond, how) for backbone in (small, large)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def _learnt(backbone: Any, cond: Conditioning, how: Any) -> dict[str, Tensor]:
    """The velocity, and the gradient of every adapter weight, B away from zero."""
    adapters = Adapters(backbone.transformer)
    names = target_modules("attention+mlp", backbone, linear_shapes(backbone.transformer))
    adapters.add("student", AdapterPlan(rank=2, alpha=2.0), names, NamedRNG(0))
    learnt = adapters.parameters("student")
    with torch.no_grad():
        for name, parameter in learnt.items():
            parameter.copy_(0.1 * NamedRNG(1).normal(parameter.shape, name))
    if how == "compiled":
        torch._dynamo.reset()
        compile_blocks(backbone.transformer, backend="eager")
    else:
        recompute(backbone.transformer, how)
    with adapters.active("student"):
        v_BND = asked(backbone, cond)
        v_BND.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in learnt.items() if parameter.grad is not None}
    assert len(gradients) > 4
    return {"velocity": v_BND.detach(), **gradients}


@pytest.mark.parametrize("parts", ["all", "decoder", "transformer"])
def test_it_is_loaded_so(family: Family, own: Any, parts: str, tmp_path: Path) -> None:
    own.pipeline.save_pretrained(tmp_path)
    loaded = load_backbone(tmp_path, dtype=torch.float32, parts=parts, int8=True)  # type: ignore[arg-type]
    cond = EDIT.within(own).conditioning(own)
    to_int8(own.transformer)
    held, made = loaded.transformer.state_dict(), own.transformer.state_dict()
    assert all(torch.equal(held[name], made[name]) for name in held | made)
    # Weights in a file's memory are aligned otherwise, and products then sum in another order.
    torch.testing.assert_close(asked(loaded, cond), asked(own, cond), **EXACT)
    assert not any(p.requires_grad for p in loaded.transformer.parameters())
