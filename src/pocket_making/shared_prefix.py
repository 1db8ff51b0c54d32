"""The teacher's velocity for several draws of noise behind one prefix.

Under `causal_condition` text and reference tokens depend neither on t nor on the target. So one pass over them can
serve several (t, noise) draws: [prefix | draw 1 | ... | draw M], where every draw attends to the prefix and itself.
Each draw gets the same result as from the stock forward (a test compares them), at about two thirds of its cost for M =
2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.pocket.build import Transformer

Grid = tuple[int, int]  # rows and columns of latent tokens


@dataclass(frozen=True)
class BatchLayout:
    """What all samples of a batch share: the positions of references in the text, and the rotary angles."""

    image_at: Tensor  # (P,) bool, reference tokens among the prefix
    visible: Tensor  # (L, L) bool, query row may attend to key column
    cos: Tensor  # (L, 32)
    sin: Tensor


def batch_layout(model: Transformer, texts: Sequence[int], grid: Grid, draws: int) -> BatchLayout:
    """The prefix is stretches of so many text tokens, with a reference of `grid` tokens between each two; behind it are
    `draws` targets of the same grid."""
    tokens, references = grid[0] * grid[1], len(texts) - 1
    prefix = sum(texts) + references * tokens
    block = torch.full((prefix + draws * tokens,), -1)  # -1: text; others attend to all of their own block
    starts = accumulate((length + tokens for length in texts[1:-1]), initial=texts[0])
    for number, start in zip(range(references), starts, strict=False):
        block[start : start + tokens] = number
    block[prefix:] = references + torch.arange(draws).repeat_interleave(tokens)
    at = block[: prefix + tokens] >= 0
    angle = model.pos_embed([(1, *grid)] * (references + 1), at, device=torch.device("cpu"))
    angle = torch.cat([angle[:prefix], *[angle[prefix:]] * draws])
    length = len(block)
    row, column = torch.arange(length)[:, None], torch.arange(length)[None]
    text_or_reference = (column < prefix) & (row >= column)
    visible = text_or_reference | ((block[:, None] == block[None]) & (block[None] >= 0))
    return BatchLayout(at[:prefix], visible, angle.real.float().contiguous(), angle.imag.float().contiguous())


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of channels rotated by the token's angle (Su et al. 2021); x (B, L, H, 64)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attention without a fused kernel: at fifty tokens its backward is several times faster on CPU.

    q, k, v (B, L, H, 64); hidden (B or 1, 1, L, L) is added to the logits.
    """
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    logits = q @ k.mT * q.shape[-1] ** -0.5
    return ((logits + hidden).softmax(-1, torch.float32).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def modulation_terms(mod: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1 + scale and tanh(gate), of attention and of MLP."""
    scale1, gate1, scale2, gate2 = mod.chunk(4, dim=-1)
    return 1 + scale1, gate1.tanh(), 1 + scale2, gate2.tanh()


def block_forward(block: Any, x: Tensor, mod: tuple[Tensor, ...], cos: Tensor, sin: Tensor, hidden: Tensor) -> Tensor:
    scale1, gate1, scale2, gate2 = mod
    attn, mlp = block.attn, block.img_mlp
    h = block.img_norm1(x) * scale1
    q, k, v = (to(h).unflatten(-1, (attn.heads, -1)) for to in (attn.to_q, attn.to_k, attn.to_v))
    q, k = (apply_rotary(norm(y), cos, sin).to(v.dtype) for norm, y in ((attn.norm_q, q), (attn.norm_k, k)))
    x = x + gate1 * attn.to_out[0](plain_attention(q, k, v, hidden))
    h = block.img_norm2(x) * scale2
    return x + gate2 * mlp.out(F.silu(mlp.gate_layer(h)) * mlp.proj(h))


def velocities(
    model: Transformer,
    text_BTC: Tensor,
    valid_BT: Tensor | None,
    references_BKD: Tensor | None,
    z_BMND: Tensor,
    t_BM: Tensor,
    layout: BatchLayout,
    forward: Callable[..., Tensor] = block_forward,
) -> Tensor:
    """v (B, M, N, D) at M noisy latents and times per sample; references one behind the other."""
    b, m, n, _ = z_BMND.shape
    prefix = layout.image_at.shape[0]
    text = model.txt_in(text_BTC)
    joint = text.new_zeros(b, prefix, text.shape[-1])
    joint[:, ~layout.image_at] = text
    if references_BKD is not None:
        joint[:, layout.image_at] = model.img_in(references_BKD).to(joint.dtype)
    joint = torch.cat([joint, model.img_in(z_BMND).flatten(1, 2).to(joint.dtype)], dim=1)

    times = torch.cat([t_BM.flatten(), t_BM.new_zeros(1)])
    temb = model.time_text_embed(times, joint)
    mod, last = model.modulation(temb), model.norm_out.linear(F.silu(temb))
    per_token = tuple(  # shared by all blocks
        torch.cat([y[-1].expand(b, prefix, -1), y[:-1].view(b, m, -1).repeat_interleave(n, dim=1)], dim=1)
        for y in modulation_terms(mod)
    )

    mask = layout.visible[None, None]
    if valid_BT is not None:
        keys = torch.ones(b, layout.visible.shape[0], dtype=torch.bool)
        keys[:, :prefix][:, ~layout.image_at] = valid_BT
        mask = mask & keys[:, None, None]
    hidden = torch.zeros(mask.shape).masked_fill(~mask, -1e4)
    hidden = hidden.to(torch.bfloat16) if torch.is_autocast_enabled("cpu") else hidden
    for block in model.transformer_blocks:
        joint = forward(block, joint, per_token, layout.cos, layout.sin, hidden)
    target = joint[:, prefix:].unflatten(1, (m, n))
    scale = last[:-1].view(b, m, 1, -1)
    return model.proj_out(model.norm_out.norm(target) * (1 + scale))
