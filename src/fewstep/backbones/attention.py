"""Attention over short sequences in bf16 on a CPU, as two products and a softmax.

torch's fused kernel is made for sequences whose scores do not fit the cache. On a CPU in bf16, with the 40 tokens of
the pocket model, forward and backward take four times as long as with plain products; with 170 tokens twice as long
(docs/performance.md). On a GPU, in fp32 and for longer sequences the stock kernel is used.

The stock processors find torch's kernel by name in a table of diffusers. This module replaces the entry.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from fewstep.backbones.shape_tensor import ShapeTensor
from fewstep.backbones.stock import ATTENTION_BACKENDS, AttentionBackendName

MAX_KEYS = 256  # beyond so many keys, the scores kept for the backward pass take more memory than all else in a block

stock = ATTENTION_BACKENDS[AttentionBackendName.NATIVE]


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    """Attention with the signature of the stock "native" backend.

    A query that may attend to no key gets the mean of all values; torch returns 0 there. Only padded positions are such
    queries, and nobody uses their result.

    Args:
        query: (B, Q, heads, D).
        key, value: (B, K, heads, D).
        attn_mask: bool (True means attend), or floats that are added to the scores. (B, K), or broadcastable to
            (B, heads, Q, K).

    Returns:
        (B, Q, heads, D).
    """
    # softmax(q k^T / sqrt(D) + mask) v    [scaled dot-product attention, arXiv 1706.03762, eq. 1]
    if not query.shape[1]:  # a forward for the prefix alone has an empty target: kernels need not support that
        kind = query.device.type
        return query.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else query
    if not _applies(query, key, options):
        return stock(query=query, key=key, value=value, attn_mask=attn_mask, **options)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        # Scores and softmax are fp32, as inside torch's kernel. Rounded to bf16 they would double its error.
        scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().mT
        seen = _masked(scores, attn_mask).softmax(-1)
        answer = seen.bfloat16() @ v.bfloat16()
    return answer.transpose(1, 2)


def _applies(query: Tensor, key: Tensor, options: dict[str, Any]) -> bool:
    """Whether plain products are used. Not for fake tensors, which stand for a run on a GPU."""
    if query.device.type != "cpu" or isinstance(query, FakeTensor | ShapeTensor):
        return False
    if not takes_plain_products("cpu", key.shape[1], dtype_used(query)):
        return False
    return not any(value for value in options.values())  # dropout, another scale, causal, fewer heads of keys: stock's


def takes_plain_products(device: str, keys: int, dtype: torch.dtype) -> bool:
    """Whether attention over so many keys is two products and a softmax here. dtype: the one that is computed in."""
    return device == "cpu" and keys <= MAX_KEYS and dtype == torch.bfloat16


def dtype_used(query: Tensor) -> torch.dtype:
    """The dtype that attention is computed in: autocast's, where it is on."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    if mask.ndim == 2 and mask.shape == (scores.shape[0], scores.shape[-1]):
        mask = mask[:, None, None]
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask.to(scores.dtype)


def install() -> None:
    """Replaces the kernel for all stock models of this process. A second call changes nothing."""
    ATTENTION_BACKENDS[AttentionBackendName.NATIVE] = attention


@contextmanager
def only_stock() -> Iterator[None]:
    """Inside, torch's kernel is used at every length, as without fewstep. Tests compare the two."""
    ATTENTION_BACKENDS[AttentionBackendName.NATIVE] = stock
    try:
        yield
    finally:
        install()
