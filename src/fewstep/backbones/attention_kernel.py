"""Which kernel computes an attention. torch chooses one by shapes, dtype, mask and device, and says nothing of it.

The calls of a network are recorded where all stock processors make them, in diffusers' table of backends. That works
on tensors without data too, so no weights and no GPU are needed to know the calls. Each call is then asked of torch,
with tensors of its shapes on the device of the run: the same question that torch asks itself before it attends.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn.attention import SDPBackend

from fewstep.backbones.attention import dtype_used, takes_plain_products
from fewstep.backbones.stock import ATTENTION_BACKENDS, AttentionBackendName, require_attention_backend

NATIVE = AttentionBackendName.NATIVE.value
TRIED = 64  # queries and keys at most with which a backend of another library is tried
FAST = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION)
NAMES = {
    SDPBackend.FLASH_ATTENTION: "torch's flash kernel",
    SDPBackend.CUDNN_ATTENTION: "cuDNN's kernel",
    SDPBackend.EFFICIENT_ATTENTION: "torch's memory-efficient kernel",
    SDPBackend.MATH: "torch's plain products",
}
ON_CPU = {SDPBackend.FLASH_ATTENTION: "torch's fused kernel for CPUs", SDPBackend.MATH: "torch's plain products"}
SHORT = "fewstep's plain products for short sequences"


@dataclass(frozen=True)
class AttentionCall:
    """One call. Equal calls have the same kernel.

    Args:
        backend: diffusers' name of the backend that is asked.
        query, key: their shapes, (B, tokens, heads, channels of a head).
        dtype: the one that is computed in.
        mask: its shape, (B, heads or 1, queries or 1, keys) or (B, keys); None without one.
        grad: whether a gradient is kept for it.
    """

    backend: str
    query: tuple[int, ...]
    key: tuple[int, ...]
    dtype: torch.dtype
    mask: tuple[int, ...] | None
    causal: bool
    grad: bool

    @property
    def work(self) -> int:
        """Queries times keys of a sample."""
        return self.query[1] * self.key[1]


@dataclass(frozen=True)
class Kernel:
    """What computes a call, in words.

    Args:
        slow: whether it is plain products on a GPU, whose scores take memory by the square of the length.
        refused: why torch's flash kernel was not taken, in torch's own words; empty if it was, or on a CPU.
    """

    name: str
    slow: bool = False
    refused: str = ""


@contextmanager
def recorded_attention() -> Iterator[list[AttentionCall]]:
    """Inside, attention is not computed: each call is recorded, and answered by numbers of the right shape."""
    calls: list[AttentionCall] = []
    table = dict(ATTENTION_BACKENDS)
    for name in table:
        ATTENTION_BACKENDS[name] = partial(_record, calls, AttentionBackendName(name).value)
    try:
        yield calls
    finally:
        ATTENTION_BACKENDS.update(table)


def _record(
    calls: list[AttentionCall],
    backend: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    grad = torch.is_grad_enabled() and any(each.requires_grad for each in (query, key, value))
    mask, dtype = None if attn_mask is None else tuple(attn_mask.shape), dtype_used(query)
    calls.append(AttentionCall(backend, tuple(query.shape), tuple(key.shape), dtype, mask, bool(is_causal), grad))
    return query.to(dtype).clone()


def kernel_of(call: AttentionCall, device: torch.device) -> Kernel:
    """What computes this call on a device, by torch's own choice."""
    if call.backend != NATIVE:
        return Kernel(f"diffusers' backend {call.backend}")
    if not call.causal and takes_plain_products(device.type, call.key[1], call.dtype):
        return Kernel(SHORT)
    query, key, value, mask = _tensors(call, device)
    chosen = SDPBackend(torch._fused_sdp_choice(query, key, value, mask, 0.0, call.causal))
    names = ON_CPU if device.type == "cpu" else NAMES
    name = names.get(chosen, f"torch's {chosen.name.lower().replace('_', ' ')}")
    if device.type != "cuda" or chosen in FAST:
        return Kernel(name)
    refused = _refusal(SDPAParams(query, key, value, mask, 0.0, call.causal, False))
    return Kernel(name, chosen == SDPBackend.MATH, refused)


def _refusal(asked: SDPAParams) -> str:
    """Why torch's flash kernel does not take a call."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        can_use_flash_attention(asked, debug=True)
    said = (str(each.message).split(" (Triggered")[0].strip() for each in told)
    return "; ".join(dict.fromkeys(line.rstrip(".") for line in said if not line.endswith("because:")))


def _tensors(call: AttentionCall, device: torch.device, most: int | None = None) -> tuple[Any, Any, Any, Tensor | None]:
    """Query, key and value as (B, heads, tokens, D), and the mask. most: of queries and keys each."""

    def made(shape: tuple[int, ...]) -> Tensor:
        samples, tokens, *rest = shape
        short = (samples, tokens if most is None else min(tokens, most), *rest)
        return torch.empty(short, dtype=call.dtype, device=device).transpose(1, 2).requires_grad_(call.grad)

    query, key, value = made(call.query), made(call.key), made(call.key)
    if call.mask is None:
        return query, key, value, None
    shape = call.mask if len(call.mask) > 2 else (call.mask[0], 1, 1, call.mask[1])
    lengths = [min(shape[-2], query.shape[-2]), key.shape[-2]]
    return query, key, value, torch.ones(*shape[:-2], *lengths, dtype=torch.bool, device=device)


def backend_fault(call: AttentionCall, device: torch.device) -> str | None:
    """Why a backend that was chosen for diffusers cannot compute this call, forward and backward; None if it can.

    It is tried, with the first tokens of the call. torch's own backend needs no trial.
    """
    if call.backend == NATIVE:
        return None
    query, key, value, mask = _tensors(call, device, TRIED)
    q, k, v = (each.detach().transpose(1, 2).requires_grad_(call.grad) for each in (query, key, value))
    name = AttentionBackendName(call.backend)
    causal = {"is_causal": True} if call.causal else {}
    try:
        require_attention_backend(name)
        with warnings.catch_warnings(action="ignore"):  # torch says in warnings what it raises then
            answer = ATTENTION_BACKENDS[name](query=q, key=k, value=v, attn_mask=mask, **causal)
            if call.grad:
                answer.sum().backward()
    except Exception as error:  # whatever another library raises: what a run would end with later
        return f"{error}".splitlines()[0].rstrip(".")
    return None
