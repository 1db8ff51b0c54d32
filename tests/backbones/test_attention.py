"""Attention over short sequences in bf16 on a CPU against torch's kernel."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.backbones import attention
from fewstep.backbones.qwen_image_21 import QwenImage21

B, HEADS, D = 2, 3, 32


def drawn(queries: int, keys: int, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    rng = torch.Generator().manual_seed(queries + keys)
    shapes = ((B, queries, HEADS, D), (B, keys, HEADS, D), (B, keys, HEADS, D))
    return [torch.randn(shape, generator=rng).to(dtype).requires_grad_() for shape in shapes]


def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """torch's own, in float64."""
    wide = (x.detach().double().transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*wide, attn_mask=mask).transpose(1, 2)


MASKS: dict[str, Callable[[int, int], Tensor | None]] = {
    "none": lambda queries, keys: None,
    "keys": lambda queries, keys: (torch.arange(keys) < torch.tensor([keys, max(1, keys - 4)])[:, None])[:, None, None],
    "causal": lambda queries, keys: torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries),
    "added": lambda queries, keys: torch.linspace(-3, 0, keys).double()[None],
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("queries", "keys"), [(16, 40), (7, 200), (1, 1)])
def test_short_bf16_is_attention(mask: str, queries: int, keys: int) -> None:
    q, k, v = drawn(queries, keys)
    mask_QK = MASKS[mask](queries, keys)
    given = mask_QK if mask_QK is None or mask_QK.dtype == torch.bool else mask_QK.bfloat16()
    want = exact(q, k, v, mask_QK)
    ours = attention.attention(q, k, v, given)
    stock = attention.stock(query=q, key=k, value=v, attn_mask=given)
    assert ours.dtype == torch.bfloat16
    error, theirs = (float((x.detach().double() - want).norm() / want.norm()) for x in (ours, stock))
    assert error <= 1.5 * theirs, "as far from the exact answer as torch's kernel in bf16"


def test_a_mask_of_keys_alone_is_spread_as_stock_spreads_it() -> None:
    q, k, v = drawn(6, 40)
    valid = torch.arange(40) < torch.tensor([40, 9])[:, None]
    wide = valid[:, None, None].expand(B, HEADS, 6, 40)
    assert torch.equal(attention.attention(q, k, v, valid), attention.attention(q, k, v, wide))


def test_gradients_are_those_of_attention() -> None:
    q, k, v = drawn(16, 40)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((attention.attention(q, k, v) * weight).sum(), (q, k, v))
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    true = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in wide)).transpose(1, 2)
    want = torch.autograd.grad((true * weight).sum(), wide)
    for got, expected in zip(found, want, strict=True):
        assert float((got.double() - expected).norm() / expected.norm()) < 0.01


def test_a_query_that_sees_nothing_is_finite() -> None:
    q, k, v = drawn(4, 8)
    nothing = torch.zeros(4, 8, dtype=torch.bool)
    assert attention.attention(q, k, v, nothing).isfinite().all()


def test_elsewhere_the_stock_kernel_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[torch.dtype, int]] = []

    def stock(**given: Tensor) -> Tensor:
        asked.append((given["query"].dtype, given["key"].shape[1]))
        return given["query"]

    monkeypatch.setattr(attention, "stock", stock)
    attention.attention(*drawn(4, 8, torch.float32))
    attention.attention(*drawn(4, attention.MAX_KEYS + 1))
    attention.attention(*drawn(4, 8), is_causal=True)
    attention.attention(*drawn(4, 8), dropout_p=0.0, is_causal=False, scale=None)
    with torch.autocast("cpu", torch.bfloat16):  # processors hand over fp32 there, where norms do
        attention.attention(*drawn(4, 8, torch.float32))
    assert asked == [(torch.float32, 8), (torch.bfloat16, attention.MAX_KEYS + 1), (torch.bfloat16, 8)]


def test_the_stock_transformer_runs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in diffusers' table: a version that looks elsewhere would be noticed here."""
    backbone, calls, applies = QwenImage21.tiny(), list[int](), attention._applies
    monkeypatch.setattr(attention, "_applies", lambda *given: calls.append(1) or applies(*given))
    cond = backbone.encode(["a tree"], None, (32, 32))[0]
    z_BND = torch.zeros(1, cond.layout.target_tokens, backbone.transformer.config.in_channels)
    with torch.no_grad():
        backbone.velocity(backbone.transformer, z_BND, torch.ones(1), cond)
    assert calls


@pytest.mark.parametrize("autocast", [False, True])
def test_no_query_gets_no_answer(autocast: bool) -> None:
    """In the dtype of the other segments' answers, beside which it is put."""
    q, k, v = drawn(5, 9, torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        none, some = attention.attention(q[:, :0], k, v), attention.attention(q, k, v)
    assert (none.shape, none.dtype) == ((B, 0, HEADS, D), some.dtype)


def test_a_prefix_alone_asks_no_kernel_about_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def spied(query: Tensor, **options: object) -> Tensor:
        asked.append(query.shape[1])
        return kernel(query=query, **options)

    kernel = attention.stock
    monkeypatch.setattr(attention, "stock", spied)
    backbone = QwenImage21.tiny()
    (cond,) = backbone.encode(["a boat"], None, (32, 32))
    backbone.prefix(backbone.transformer, cond)
    assert asked
    assert 0 not in asked
