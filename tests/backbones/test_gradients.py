"""Where the gradient goes: through a full prefix, around a stopped one, and unchanged by checkpointing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.backbones.stock import QwenImage21KVCache
from tests.backbones.families import EDIT, EDIT_TWO, T2I_UNEQUAL, Family, Request, noise_for

ASKED = pytest.mark.parametrize("asked", [T2I_UNEQUAL, EDIT_TWO], ids=lambda r: r.name)


def _opened(family: Family) -> Any:
    backbone = family.make()
    backbone.transformer.requires_grad_(True)
    return backbone


@pytest.fixture
def open_model(family: Family) -> Any:
    """A model of its own, all weights trainable."""
    return _opened(family)


@pytest.fixture
def with_prefix(caching: Family) -> Any:
    """One that has a prefix."""
    return _opened(caching)


def gradients(backbone: Any, asked: Request, prefix: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The velocity, and the gradient of its square in the weights and in z. prefix: none, full or stopped."""
    cond = asked.conditioning(backbone)
    z_BND = noise_for(backbone, cond).requires_grad_(True)
    t_B = torch.linspace(0.3, 0.9, len(cond))
    transformer = backbone.transformer
    transformer.zero_grad()
    held = None
    if prefix != "none":
        with torch.set_grad_enabled(prefix == "full"):
            held = backbone.prefix(transformer, cond)
    v_BND = backbone.velocity(transformer, z_BND, t_B, cond, held)
    v_BND.square().mean().backward()
    named = {name: p.grad.clone() for name, p in transformer.named_parameters() if p.grad is not None}
    assert z_BND.grad is not None
    return v_BND.detach(), named | {"z": z_BND.grad}


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Equal up to 1e-5 of the largest gradient there is."""
    assert got.keys() == want.keys()
    largest = max(float(g.abs().max()) for g in want.values())
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-5 * largest)


@ASKED
def test_full_prefix_gives_the_full_gradient(with_prefix: Any, asked: Request) -> None:
    plain, want = gradients(with_prefix, asked, "none")
    cached, got = gradients(with_prefix, asked, "full")
    torch.testing.assert_close(cached, plain, rtol=0, atol=1e-5)
    assert_same(got, want)


@ASKED
def test_stopped_prefix_is_exact_forward_and_silent_backward(with_prefix: Any, asked: Request) -> None:
    plain, want = gradients(with_prefix, asked, "none")
    stopped, got = gradients(with_prefix, asked, "stopped")
    torch.testing.assert_close(stopped, plain, rtol=0, atol=1e-5)
    text = [name for name in want if name.startswith("txt_in.")]
    assert text
    assert all(name not in got or not got[name].any() for name in text), "the text projection learns nothing"
    moved = [name for name in got if name.endswith("attn.to_k.weight")]
    assert moved
    assert all(got[name].any() for name in moved), "the target's own keys do learn"


@ASKED
def test_gradient_checkpointing_changes_nothing(open_model: Any, asked: Request) -> None:
    _same_when_checkpointed(open_model, asked, "none")


@ASKED
@pytest.mark.parametrize("prefix", ["full", "stopped"])
def test_nor_does_it_with_a_prefix(with_prefix: Any, asked: Request, prefix: str) -> None:
    _same_when_checkpointed(with_prefix, asked, prefix)


def _same_when_checkpointed(backbone: Any, asked: Request, prefix: str) -> None:
    plain, want = gradients(backbone, asked, prefix)
    backbone.transformer.enable_gradient_checkpointing()
    checkpointed, got = gradients(backbone, asked, prefix)
    torch.testing.assert_close(checkpointed, plain, rtol=0, atol=0)
    assert_same(got, want)


def test_checkpointing_frees_activations(open_model: Any) -> None:
    """So that the test above is about something: fewer bytes are kept for backward."""

    def kept() -> int:
        total = 0

        def count(x: Tensor) -> Tensor:
            nonlocal total
            total += x.numel() * x.element_size()
            return x

        cond = EDIT.within(open_model).conditioning(open_model)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            open_model.velocity(open_model.transformer, noise_for(open_model, cond), torch.ones(1), cond)
        return total

    before = kept()
    open_model.transformer.enable_gradient_checkpointing()
    assert kept() < before / 2


def test_a_prefix_outlives_a_backward_under_checkpointing(with_prefix: Any) -> None:
    """Recomputation must not write into a prefix that is used again, as the frozen critic's and the rollout's are."""
    with_prefix.transformer.enable_gradient_checkpointing()
    cond = EDIT.conditioning(with_prefix)
    with torch.no_grad():
        held = with_prefix.prefix(with_prefix.transformer, cond)
    z_BND = noise_for(with_prefix, cond)

    def once(t: float) -> Tensor:
        return with_prefix.velocity(with_prefix.transformer, z_BND, torch.tensor([t]), cond, held)

    want = once(0.4).detach()
    for t in (0.9, 0.6):
        once(t).square().mean().backward()
    assert torch.equal(once(0.4).detach(), want)


def test_one_full_prefix_under_several_velocities(with_prefix: Any) -> None:
    """Gradients of two times through one prefix add up to those of two plain forwards, checkpointed or not."""
    cond = EDIT.conditioning(with_prefix)
    z_BND, transformer = noise_for(with_prefix, cond), with_prefix.transformer

    def loss(shared: bool) -> dict[str, Tensor]:
        transformer.zero_grad()
        held = with_prefix.prefix(transformer, cond) if shared else None
        vs = [with_prefix.velocity(transformer, z_BND, torch.tensor([t]), cond, held) for t in (0.3, 0.8)]
        sum(v.square().mean() for v in vs).backward()
        return {name: p.grad.clone() for name, p in transformer.named_parameters()}

    want = loss(shared=False)
    assert_same(loss(shared=True), want)
    transformer.enable_gradient_checkpointing()
    assert_same(loss(shared=True), want)


@ASKED
def test_the_prefix_sees_neither_target_nor_time(caching: Family, asked: Request) -> None:
    """Keys and values extracted beside the real target at any t are those extracted beside the smallest one."""
    backbone: Any = caching.make()
    cond = asked.conditioning(backbone)
    small = backbone.prefix(backbone.transformer, cond).cache
    for t in (0.05, 1.0):
        from_full = _extracted_beside_the_target(backbone, cond, t)
        for (k, v), (k_full, v_full) in zip(small, from_full, strict=True):
            torch.testing.assert_close(k, k_full, rtol=0, atol=1e-5)
            torch.testing.assert_close(v, v_full, rtol=0, atol=1e-5)


def _extracted_beside_the_target(backbone: Any, cond: Any, t: float) -> list[tuple[Tensor, Tensor]]:
    cache = QwenImage21KVCache(len(backbone.transformer.transformer_blocks))
    t_B = torch.full((len(cond),), t)
    with torch.no_grad():
        z_BND = noise_for(backbone, cond)
        backbone._forward(backbone.transformer, z_BND, t_B, cond, cond.layout.target, cache, "extract")
    return [(layer.k, layer.v) for layer in cache.layer_caches]
