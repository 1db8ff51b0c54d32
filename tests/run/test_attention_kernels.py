"""The kernels of a run's attention: asked of shapes alone, they are those of the real networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import attention_backend

from fewstep.backbones.attention_kernel import AttentionCall, Kernel, recorded_attention
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.roles.build import FILE_LOADERS, RolesSpec, build_roles
from fewstep.roles.execution import Execution
from fewstep.roles.plan import CriticPlan, StudentPlan, TeachersSpec
from fewstep.run.attention_kernels import (
    KernelUse,
    MaskKind,
    attention_calls,
    kernel_uses,
    kernel_warnings,
    kernels_of_model,
    refuse_unusable_backend,
    velocity_calls,
)
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.runtime.task import Task
from tests.run.budget.test_rehearsal import MAKERS, batch_shape, size
from tests.train.tiny_model import batch, tiny

CPU = torch.device("cpu")
TEXT = 96  # positions: more than Z-Image pads to
TEXT_IN_ORDER = ("qwen-image-2.1",)  # each position sees those before it
BOTH: tuple[Task, ...] = ("t2i", "edit")
DRAWS_ONLY = ("z-image",)
UNMASKED = ("flux2-klein", "longcat-image")


@pytest.mark.parametrize("family", MAKERS)
def test_shapes_call_what_the_real_transformer_calls(family: str) -> None:
    """Of the same layouts and lengths; the real one has all its blocks, which are alike."""
    tasks = ("t2i",) if family in DRAWS_ONLY else BOTH
    shapes = [replace(batch_shape(family, task, 8), text=TEXT) for task in tasks]
    drawn = torch.get_rng_state()
    told = attention_calls(size(family), shapes, 4, "fp32")
    assert torch.equal(torch.get_rng_state(), drawn), "a run's draws are as before"
    backbone: Any = MAKERS[family][0].random(size(family).config, dtype=torch.float32)
    for shape in shapes:
        found: list[AttentionCall] = []
        for text in (TEXT, TEXT // 2) if shape.padded else (TEXT,):  # of the second sample
            cond = zero_batch(shape, 2, backbone.latent_channels, (), torch.float32).cond
            cond.mask_BL[-1] = torch.arange(TEXT) < text
            found += velocity_calls(backbone, backbone.transformer, cond, "fp32")
        assert {one.call for one in told if one.task == shape.task} == set(found)
    assert ("padding" in {one.mask for one in told}) == (family not in UNMASKED)
    assert ("model" in {one.mask for one in told}) == (family in TEXT_IN_ORDER)


def test_a_batch_of_one_has_no_mask() -> None:
    calls = attention_calls(size("qwen-image"), [batch_shape("qwen-image", "t2i", 8)], 1, "fp32")
    assert {(one.mask, one.call.mask) for one in calls} == {("none", None)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", BOTH)
def test_all_networks_of_a_run_make_the_same_calls(task: Task, precision: str) -> None:
    """An adapter, a copy of its own and the base."""
    backbone = tiny()
    spec = RolesSpec(
        StudentPlan.model_validate({"adapter": {"rank": 2, "alpha": 2.0}}),
        CriticPlan.model_validate({"mode": "full"}),
        TeachersSpec(),
        1,
    )
    roles = build_roles(backbone, spec, NamedRNG(0), Execution(precision), FILE_LOADERS)
    given: Batch = batch(size=2, task=task)
    z_BND, t_B = torch.zeros(2, *backbone.noise_shape(given.cond.layout)), torch.full((2,), 0.5)
    made = {}
    for network in roles.networks:
        with torch.no_grad(), recorded_attention() as calls:
            network.velocity(z_BND, t_B, given.cond)
        made[network.name] = set(calls)
    assert len(made) == 3
    assert len({frozenset(calls) for calls in made.values()}) == 1
    plain = set(velocity_calls(backbone, backbone.transformer, given.cond, precision))
    assert made["student"] <= plain, "a velocity without its prefix is among them"


@contextmanager
def chosen(backend: str) -> Iterator[None]:
    """As DIFFUSERS_ATTN_BACKEND does before diffusers is imported."""
    with attention_backend(backend):
        yield


def test_a_backend_that_cannot_compute_a_run_is_refused() -> None:
    kind, shapes = size("qwen-image"), [batch_shape("qwen-image", "t2i", 8)]
    with chosen("_native_flash"):
        calls = attention_calls(kind, shapes, 4, "bf16")
    assert {one.call.backend for one in calls} == {"_native_flash"}
    with pytest.raises(
        EnvironmentRefused, match=r"DIFFUSERS_ATTN_BACKEND chooses _native_flash.*t2i on cpu, masked wh"
    ):
        refuse_unusable_backend(calls, CPU)
    refuse_unusable_backend([one for one in calls if one.mask == "none"], CPU)
    (use,) = kernel_uses(calls, CPU)
    assert use.kernel.name == "diffusers' backend _native_flash"
    with chosen("_native_math"):
        calls = attention_calls(kind, shapes, 4, "bf16")
    refuse_unusable_backend(calls, CPU)


def test_what_is_slow_is_warned_of() -> None:
    def use(kernel: Kernel, *masks: MaskKind, dtype: str = "bfloat16", work: int = 4352**2) -> KernelUse:
        return KernelUse(kernel, BOTH, masks, 24, 128, 4352, work, dtype)

    math = Kernel("torch's plain products", True, "Expected query to have dtype Half or BFloat16")
    assert "set run.precision: bf16" in (use(math, "none", dtype="float32").warning() or "")
    assert "Expected query to have dtype" in (use(math, "none").warning() or "")
    efficient = Kernel("torch's memory-efficient kernel", False, "Flash Attention does not support non-null attn_mask")
    padded = use(efficient, "padding").warning() or ""
    assert "of t2i and edit is masked where texts of a batch have unequal lengths" in padded
    assert "non-null attn_mask" in padded
    assert use(efficient, "none", "padding").warning() is None, "the mask is not what made torch choose it"
    flash = use(Kernel("torch's flash kernel"), "none")
    assert kernel_warnings([flash, use(efficient, "padding")]) == [padded]
    assert kernel_warnings([flash, use(efficient, "padding", work=256**2)]) == [], "too little to tell"
    assert kernel_warnings([]) == []


def test_a_model_is_asked_without_a_recipe() -> None:
    (use,) = kernels_of_model("pocket", CPU, "bf16")
    assert use.tasks == ("t2i",)
    assert use.keys > 4096
    assert use.masks == ("model", "none", "padding")
