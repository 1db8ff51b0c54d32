"""Attention over short sequences in bf16 on a CPU, as two products and a softmax.

torch's fused kernel is made for sequences whose scores do not fit the cache. On a CPU, in bf16 and at the pocket's 40
tokens, it takes four times as long with its backward as plain products do, at 170 still twice as long
(docs/performance.md). Elsewhere - on a GPU, in fp32, at longer sequences - the stock kernel stays what it was.

The stock processors reach torch's kernel through one table of diffusers, by name; this puts ours before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from fewstep.backbones.stock import ATTENTION_BACKENDS, AttentionBackendName

MAX_KEYS = 256  # keys; beyond it the scores that are kept for the backward outweigh what else a block keeps

stock = ATTENTION_BACKENDS[AttentionBackendName.NATIVE]


def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    """As the stock "native" backend: query (B, Q, heads, D); key, value (B, K, heads, D); returns (B, Q, heads, D).

    attn_mask: bool (True is seen) or added to the scores; (B, K), or anything that spreads to (B, heads, Q, K). A query
    that sees nothing gets the mean of all values, where torch answers 0: a padded position, which nobody reads.
    """
    if not query.shape[1]:  # of a prefix alone, whose target is empty: no kernel has to bear that
        kind = query.device.type
        return query.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else query
    if not _applies(query, key, options):
        return stock(query=query, key=key, value=value, attn_mask=attn_mask, **options)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        # Scores and softmax in fp32, as inside torch's kernel: rounded to bf16 they would double its error.
        scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().mT
        seen = _masked(scores, attn_mask).softmax(-1)
        answer = seen.bfloat16() @ v.bfloat16()
    return answer.transpose(1, 2)


def _applies(query: Tensor, key: Tensor, options: dict[str, Any]) -> bool:
    """Not for fake tensors: what they stand for runs on a GPU."""
    if query.device.type != "cpu" or key.shape[1] > MAX_KEYS or isinstance(query, FakeTensor):
        return False
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not cast and query.dtype != torch.bfloat16:
        return False
    return not any(value for value in options.values())  # dropout, another scale, causal, fewer heads of keys: stock's


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return scores
    if mask.ndim == 2 and mask.shape == (scores.shape[0], scores.shape[-1]):
        mask = mask[:, None, None]
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask.to(scores.dtype)


def install() -> None:
    """For all stock models of this process. Twice is once."""
    ATTENTION_BACKENDS[AttentionBackendName.NATIVE] = attention


@contextmanager
def only_stock() -> Iterator[None]:
    """torch's kernel at every length inside: what ours is compared with, and what others have."""
    ATTENTION_BACKENDS[AttentionBackendName.NATIVE] = stock
    try:
        yield
    finally:
        install()
