"""What is said of an attention call's kernel, against the operation that torch's profiler sees run."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile

from fewstep.backbones.attention_kernel import (
    NAMES,
    ON_CPU,
    SHORT,
    AttentionCall,
    backend_fault,
    kernel_of,
    recorded_attention,
)
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.stock import ATTENTION_BACKENDS, AttentionBackendName

DEVICES = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
HEADS, CHANNELS = 4, 64
SEEN = {  # torch's operation, by its name's end
    "_flash_attention_for_cpu": "torch's fused kernel for CPUs",
    "_attention_math": "torch's plain products",
    "_product_flash_attention": "torch's flash kernel",
    "_efficient_attention": "torch's memory-efficient kernel",
    "_cudnn_attention": "cuDNN's kernel",
}
FORCED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "torch's choice": nullcontext,
    "no fused kernel": lambda: sdpa_kernel(SDPBackend.MATH),
}


def call(
    keys: int, dtype: torch.dtype, mask: bool = False, grad: bool = False, backend: str = "native"
) -> AttentionCall:
    shape = (2, keys, HEADS, CHANNELS)
    return AttentionCall(backend, shape, shape, dtype, (2, 1, 1, keys) if mask else None, False, grad)


def seen(asked: AttentionCall, device: torch.device) -> str:
    """The kernel of a real call through diffusers' table, as torch's profiler names it."""
    q, k, v = (torch.randn(asked.query, dtype=asked.dtype, device=device).requires_grad_(asked.grad) for _ in range(3))
    mask = None if asked.mask is None else torch.ones(asked.mask, dtype=torch.bool, device=device)
    with warnings.catch_warnings(action="ignore"), profile() as made:
        ATTENTION_BACKENDS[AttentionBackendName.NATIVE](query=q, key=k, value=v, attn_mask=mask)
    names = [event.key for event in made.key_averages()]
    if "aten::scaled_dot_product_attention" not in names:
        return SHORT
    (found,) = {word for name in names for end, word in SEEN.items() if name.endswith(end)}
    return found


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("forced", FORCED)
@pytest.mark.parametrize("grad", [False, True], ids=["no-grad", "grad"])
@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("keys", [40, 300])
def test_the_kernel_is_the_one_that_runs(
    keys: int, dtype: torch.dtype, mask: bool, grad: bool, forced: str, device: torch.device
) -> None:
    asked = call(keys, dtype, mask, grad)
    with FORCED[forced]():
        told = kernel_of(asked, device)
        assert told.name == seen(asked, device)
    assert told.slow == (device.type == "cuda" and told.name == NAMES[SDPBackend.MATH])
    if device.type == "cuda" and mask and forced == "torch's choice" and told.name == "torch's memory-efficient kernel":
        assert "mask" in told.refused


def test_the_ways_of_a_cpu_are_all_met() -> None:
    cpu = torch.device("cpu")
    assert kernel_of(call(40, torch.bfloat16), cpu).name == SHORT
    assert kernel_of(call(40, torch.float32), cpu).name == ON_CPU[SDPBackend.FLASH_ATTENTION]
    with sdpa_kernel(SDPBackend.MATH):
        assert kernel_of(call(300, torch.bfloat16), cpu).name == ON_CPU[SDPBackend.MATH]


def test_what_is_recorded_is_what_is_called() -> None:
    """And afterwards attention is computed again."""
    backbone = QwenImage21.tiny()
    (cond,) = backbone.encode(["a red boat"], None, (32, 32))
    z_BND, t_B = torch.randn(1, *backbone.noise_shape(cond.layout)), torch.tensor([0.6])
    with torch.no_grad():
        before = backbone.velocity(backbone.transformer, z_BND, t_B, cond)
        with recorded_attention() as calls, torch.autocast("cpu", torch.bfloat16):
            recorded = backbone.velocity(backbone.transformer, z_BND, t_B, cond)
        assert torch.equal(backbone.velocity(backbone.transformer, z_BND, t_B, cond), before)
    assert recorded.shape == before.shape
    config = backbone.transformer.config  # type: ignore[union-attr]
    assert {one.query[2:] for one in calls} == {(config["num_attention_heads"], config["attention_head_dim"])}
    assert max(one.key[1] for one in calls) == cond.text_BLC.shape[1] + 4
    text = cond.text_BLC.shape[1]
    assert {one.mask for one in calls} == {None, (1, 1, text, text)}, "text attends to what stands before it"
    assert {(one.backend, one.dtype, one.grad) for one in calls} == {("native", torch.bfloat16, False)}


@pytest.mark.parametrize(
    ("backend", "mask", "fault"),
    [
        ("native", True, None),
        ("_native_math", True, None),
        ("_native_flash", False, None),
        ("_native_flash", True, "`attn_mask` is not supported for native flash attention"),
        ("flash", False, "Flash Attention backend 'flash' is not usable because of missing package"),
        ("_native_cudnn", False, "No viable backend"),
    ],
)
def test_a_backend_of_diffusers_is_tried(backend: str, mask: bool, fault: str | None) -> None:
    asked = call(300, torch.bfloat16, mask, True, backend)
    found = backend_fault(asked, torch.device("cpu"))
    assert (found is None) if fault is None else (found or "").startswith(fault)
    assert kernel_of(call(300, torch.bfloat16, backend="_flash_3"), torch.device("cpu")).name.endswith("_flash_3")


@pytest.mark.parametrize("named", ["nonsense", "", "NATIVE"])
def test_a_backend_that_diffusers_does_not_know_is_refused(named: str) -> None:
    """diffusers reads the variable while it is imported, and fails with a traceback."""
    told = subprocess.run(
        [sys.executable, "-m", "fewstep", "doctor", "pocket"],
        env={**os.environ, "DIFFUSERS_ATTN_BACKEND": named},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert f"DIFFUSERS_ATTN_BACKEND names no backend of diffusers ('{named}' is not" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
