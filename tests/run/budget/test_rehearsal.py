"""The forecast of an iteration against the same iteration run: bytes as the CPU's allocator gives them out,
and operations as torch's own counter counts them. On tiny models of the real classes."""

import gc
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fewstep.backbones import attention
from fewstep.backbones.fake_model import ModelSize, fake_model, size_of_model
from fewstep.backbones.flux2_klein import Flux2Klein
from fewstep.backbones.flux3_klein import Flux3Klein
from fewstep.backbones.joint_sequence import forget_layouts
from fewstep.backbones.longcat_image import LongCatImage
from fewstep.backbones.qwen_image import EDITS, QwenImage
from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.backbones.testing import (
    tiny_flux2_klein,
    tiny_flux3,
    tiny_longcat_image,
    tiny_qwen_image,
    tiny_qwen_image_21,
    tiny_z_image,
)
from fewstep.backbones.z_image import ZImage
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.build import FILE_LOADERS
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.forecast import forecast
from fewstep.run.budget.op_counter import ROLLOUT
from fewstep.run.budget.rehearsal import rehearse
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.parallel import SINGLE_RANK, Ranks

MAKERS = {
    "qwen-image-2.1": (QwenImage21, tiny_qwen_image_21.qwen_image_21_pipeline, "QwenImage21Pipeline"),
    "qwen-image": (QwenImage, tiny_qwen_image.qwen_image_edit_pipeline, EDITS),
    "flux2-klein": (Flux2Klein, tiny_flux2_klein.flux2_klein_pipeline, "Flux2KleinPipeline"),
    "flux3-klein": (Flux3Klein, tiny_flux3.flux3_pipeline, "Flux3ModularPipeline"),
    "z-image": (ZImage, tiny_z_image.z_image_pipeline, "ZImagePipeline"),
    "longcat-image": (LongCatImage, tiny_longcat_image.longcat_image_edit_pipeline, "LongCatImageEditPipeline"),
}
SLOW = pytest.mark.slow  # an iteration on fake tensors takes seconds; one case of each kind stays
GUIDED = [f"teachers.base.guidance.{task}={{scale: 3.0}}" for task in ("t2i", "edit")]


@cache
def size(family: str) -> ModelSize:
    kind, make, name = MAKERS[family]
    config = {key: value for key, value in make().transformer.config.items() if not key.startswith("_")}
    return ModelSize(kind, {"_class_name": name}, config, "tiny")


def recipe(*keys: str) -> Recipe:
    small = ["student.adapter={rank: 4, alpha: 4}", "critic.adapter={rank: 4, alpha: 4}", "run.precision=fp32"]
    alone = ["student.init_from=null", "teachers.named={}"]  # the pocket's own LoRA fits no other model
    few = ["student.steps=2"]  # every step is another forward to count
    return load_recipe("pocket", [*small, *alone, *few, *GUIDED, *keys])


def batch_shape(family: str, task: Any, side: int) -> BatchShape:
    config = size(family).config
    if family == "flux3-klein":  # texts as the transformer projects them
        config = config | {"joint_attention_dim": config["num_attention_heads"] * config["attention_head_dim"]}
    width = next(config[key] for key in ("context_in_dim", "joint_attention_dim", "cap_feat_dim") if key in config)
    padded = family not in ("flux2-klein", "longcat-image")  # which know no mask
    return BatchShape(task, (side, side), 24, width, ((side, side),) if task == "edit" else (), padded)


def run(plan: Recipe, kind: ModelSize, shape: BatchShape, samples: int, ranks: Ranks = SINGLE_RANK) -> int:
    """A real iteration of this plan. Bytes that were there before it, of weights and conditioning."""
    dtype = PRECISIONS[plan.run.precision]
    backbone: Any = kind.family.random(kind.config, dtype=dtype)
    if not ranks.first:
        backbone = backbone.meta_copy()
    batch = zero_batch(shape, samples, backbone.latent_channels, ("",), dtype)
    held = [*backbone.transformer.parameters(), *backbone.transformer.buffers()]
    for cond in (batch.cond, *batch.negatives.values()):
        held += [t for t in (cond.text_BLC, cond.mask_BL, cond.references_BRD) if t is not None]
    now = sum(t.numel() * t.element_size() for t in held)
    del held  # a base in int8 lets its first weights go
    rehearse(backbone, plan, batch, FILE_LOADERS, plan.run.gradient_accumulation, ranks)
    return now


def fresh(kind: ModelSize) -> None:
    """As in a new process, but for the tables of positions, which a run on a GPU has on the CPU."""
    forget_layouts(fake_model(kind).transformer)


def most_bytes(plan: Recipe, kind: ModelSize, shape: BatchShape, samples: int, ranks: Ranks = SINGLE_RANK) -> int:
    """At the fullest moment, as the allocator reports."""
    gc.collect()  # what earlier tests left is not given back meanwhile
    fresh(kind)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        now = run(plan, kind, shape, samples, ranks)
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]  # making the model is among them
    most = total = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    assert most > now
    return most


CASES = [
    ("qwen-image-2.1", "t2i", 12, 2, "adapter", "off"),
    ("qwen-image-2.1", "t2i", 8, 4, "full", "full"),
    pytest.param("qwen-image-2.1", "t2i", 8, 3, "mixed", "selective", marks=SLOW),
    pytest.param("qwen-image-2.1", "edit", 8, 2, "adapter", "full", marks=SLOW),
    ("qwen-image-2.1", "edit", 8, 1, "full", "off"),
    pytest.param("qwen-image-2.1", "edit", 12, 1, "full", "selective", marks=SLOW),
    pytest.param("qwen-image", "edit", 8, 2, "adapter", "selective", marks=SLOW),
    pytest.param("flux2-klein", "edit", 8, 1, "adapter", "full", marks=SLOW),
    pytest.param("z-image", "t2i", 12, 2, "adapter", "full", marks=SLOW),
    ("flux3-klein", "edit", 8, 2, "adapter", "full"),
    pytest.param("longcat-image", "edit", 8, 1, "adapter", "selective", marks=SLOW),
]


def modes(mode: str) -> list[str]:
    student = "full" if mode == "full" else "adapter"
    critic = "adapter" if mode == "adapter" else "full"
    return [f"student.mode={student}", f"critic.mode={critic}"]


@pytest.mark.parametrize(("family", "task", "side", "samples", "mode", "how"), CASES)
def test_memory_is_forecast_within_a_tenth(
    family: str, task: str, side: int, samples: int, mode: str, how: str
) -> None:
    plan = recipe(*modes(mode), f"run.gradient_checkpointing={how}")
    shape = batch_shape(family, task, side)
    expected = forecast(plan, shape, samples, on_gpu=False, size=size(family)).peak.bytes
    assert expected == pytest.approx(most_bytes(plan, size(family), shape, samples), rel=0.1)


@pytest.mark.parametrize(
    ("mode", "samples", "parts"),
    [
        ("adapter", 4, 2),
        pytest.param("full", 4, 4, marks=SLOW),
        pytest.param("mixed", 5, 3, marks=SLOW),
    ],
)
def test_so_it_is_of_a_batch_in_micro_batches(mode: str, samples: int, parts: int) -> None:
    """Gradients wait beside the activations of a later micro-batch."""
    plan, shape = recipe(*modes(mode), f"run.gradient_accumulation={parts}"), batch_shape("qwen-image-2.1", "edit", 8)
    expected = forecast(plan, shape, samples, on_gpu=False, size=size("qwen-image-2.1")).peak.bytes
    assert expected == pytest.approx(most_bytes(plan, size("qwen-image-2.1"), shape, samples), rel=0.1)


@pytest.mark.slow
def test_micro_batches_take_less_memory_for_the_same_work() -> None:
    shape = batch_shape("qwen-image-2.1", "edit", 8)
    whole, parted = (
        forecast(recipe(f"run.gradient_accumulation={parts}"), shape, 8, on_gpu=False, size=size("qwen-image-2.1"))
        for parts in (1, 4)
    )
    assert (whole.at_once, parted.at_once) == (8, 2)
    assert parted.peak.bytes < 0.5 * whole.peak.bytes
    assert parted.flops == pytest.approx(whole.flops, rel=0.01)
    assert parted.calls == {role: 4 * calls for role, calls in whole.calls.items()}


def test_so_it_is_in_bfloat16() -> None:
    """Plans are for GPUs, where short sequences have torch's kernel too."""
    plan, shape = recipe("run.precision=bf16"), batch_shape("qwen-image-2.1", "edit", 8)
    expected = forecast(plan, shape, 2, on_gpu=False, size=size("qwen-image-2.1")).peak.bytes
    with attention.only_stock():
        real = most_bytes(plan, size("qwen-image-2.1"), shape, 2)
    assert expected == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    ("family", "how"), [("qwen-image-2.1", "full"), pytest.param("flux2-klein", "off", marks=SLOW)]
)
def test_and_over_a_base_in_int8(family: str, how: str) -> None:
    """Whose blocks take a quarter of their bytes in float32; what a product takes back counts while it is there."""
    keys, shape = (f"run.gradient_checkpointing={how}", "student.adapter.rank=2"), batch_shape(family, "edit", 8)
    plan, unquantised = recipe("run.base_weights=int8", *keys), recipe(*keys)
    expected, whole = (forecast(one, shape, 1, on_gpu=False, size=size(family)).peak for one in (plan, unquantised))
    shapes = linear_shapes(size(family).family.random(size(family).config).transformer)
    elements = sum(math.prod(shape) for name, shape in shapes.items() if "blocks." in name)
    saved = whole.peak["weights of the base"] - expected.peak["weights of the base"]
    assert saved == pytest.approx(3 * elements, rel=0.05)  # and a scale for each row
    assert expected.bytes == pytest.approx(most_bytes(plan, size(family), shape, 1), rel=0.1)


@pytest.mark.parametrize("held", ["fp8-w8a8", pytest.param("int8-w8a8", marks=SLOW)])
def test_and_with_products_in_8_bits(held: str) -> None:
    """Bytes with the weights that a backward pass turns round, and operations that torch has no formula for."""
    family, samples, keys = "qwen-image-2.1", 8, ("student.adapter.rank=2", "critic.updates=1", "critic.exit_step=same")
    plan, shape = recipe(f"run.base_weights={held}", *keys), batch_shape(family, "edit", 8)
    whole = forecast(recipe(*keys), shape, samples, on_gpu=False, size=size(family))
    expected = forecast(plan, shape, samples, on_gpu=False, size=size(family))
    operation = torch.ops.aten._scaled_mm if held == "fp8-w8a8" else torch.ops.aten._int_mm
    counted = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._int_mm: _operations})
    with counted:
        run(plan, size(family), shape, samples)
    assert counted.get_flop_counts()["Global"][operation] > 0.2 * expected.flops, "else few rows were many"
    assert expected.flops == pytest.approx(whole.flops, rel=1e-6)
    assert expected.peak.bytes == pytest.approx(most_bytes(plan, size(family), shape, samples), rel=0.1)


def _operations(left: tuple[int, int], right: tuple[int, int], *_: Any, **__: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.parametrize(
    ("family", "task", "how"),
    [
        ("qwen-image-2.1", "edit", "full"),
        pytest.param("qwen-image", "t2i", "off", marks=SLOW),
        pytest.param("flux2-klein", "t2i", "full", marks=SLOW),
        pytest.param("z-image", "t2i", "off", marks=SLOW),
    ],
)
def test_operations_are_those_that_torch_counts(family: str, task: str, how: str) -> None:
    """torch has no formula for the CPU's own attention, so both are made to do it by plain products."""
    plan, shape = (
        recipe(f"run.gradient_checkpointing={how}", "critic.updates=1", "critic.exit_step=drawn"),
        batch_shape(family, task, 8),
    )
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = forecast(plan, shape, 2, on_gpu=False, size=size(family)).flops
        counter = FlopCounterMode(display=False)
        with counter:
            run(plan, size(family), shape, 2)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_steps_that_are_not_rolled_out_are_not_counted() -> None:
    shape = batch_shape("qwen-image-2.1", "edit", 8)
    same, drawn = (
        forecast(
            recipe(f"critic.exit_step={exit_step}", "student.steps=4"),
            shape,
            2,
            on_gpu=False,
            size=size("qwen-image-2.1"),
        )
        for exit_step in ("same", "drawn")
    )
    # Exits are at steps 0 to 3, so one and a half are left out in the mean.
    assert drawn.calls["student"] - same.calls["student"] == 1.5
    assert drawn.flops - same.flops == pytest.approx(1.5 * same.phases[0].last_call, rel=1e-9)
    assert 3.5 < same.phases[0].flops / same.phases[0].last_call < 5.5


@pytest.mark.parametrize(("order", "own"), [("critic-first", 3), pytest.param("student-first", 2, marks=SLOW)])
def test_fresh_rollouts_of_the_critic_are_counted(order: str, own: int) -> None:
    """With 3 updates, and steps that are skipped in all rollouts alike."""
    shape, kind = batch_shape("qwen-image-2.1", "t2i", 8), size("qwen-image-2.1")
    keys = ["critic.updates=3", "student.steps=4", "critic.exit_step=same"]
    shared, fresh = (
        forecast(recipe(*keys, f"critic.order={order}", f"critic.rollouts={how}"), shape, 2, False, kind)
        for how in ("shared", "fresh")
    )
    rollout = shared.phases[0].flops - shared.skipped_steps * shared.phases[0].last_call
    assert fresh.flops - shared.flops == pytest.approx(own * rollout, rel=1e-6)
    assert fresh.calls["student"] - shared.calls["student"] == own * (1 + 2.5)  # a prefix, and 4 steps less 1.5


def test_recomputing_takes_less_memory_and_more_work_the_more_it_is() -> None:
    plans = [recipe(f"run.gradient_checkpointing={how}") for how in ("off", "selective", "full")]
    shape = batch_shape("qwen-image-2.1", "t2i", 12)
    off, selective, full = (forecast(plan, shape, 4, on_gpu=False, size=size("qwen-image-2.1")) for plan in plans)
    assert off.peak.bytes > 1.2 * selective.peak.bytes > 1.4 * full.peak.bytes
    assert off.flops < selective.flops < full.flops


@pytest.mark.slow
def test_two_depths_forecast_a_deep_model() -> None:
    small = size("qwen-image-2.1")
    deep = ModelSize(small.family, small.index, {**small.config, "num_layers": 6}, "deep")
    plan, shape = recipe("run.gradient_checkpointing=full"), batch_shape("qwen-image-2.1", "edit", 8)
    extrapolated = forecast(plan, shape, 2, on_gpu=False, size=deep, whole=2)
    whole = forecast(plan, shape, 2, on_gpu=False, size=deep, whole=99)
    assert extrapolated.peak.bytes == pytest.approx(whole.peak.bytes, rel=0.03)  # 1e-5 at real sizes; here inputs count
    assert extrapolated.flops == pytest.approx(whole.flops, rel=1e-3)


@pytest.mark.parametrize("of", ["adapter", pytest.param("model", marks=SLOW)])
def test_a_specialised_teacher_counts_with_its_weights_and_its_forwards(of: str) -> None:
    shape, kind = batch_shape("qwen-image-2.1", "edit", 8), size("qwen-image-2.1")
    alone = forecast(recipe(), shape, 2, on_gpu=False, size=kind)
    teacher = "teachers.preset=constant", f"teachers.named={{other: {{{of}: other}}}}"
    taught = forecast(recipe(*teacher), shape, 2, on_gpu=False, size=kind)
    held = taught.peak.peak["weights of teacher other"]
    # An adapter teacher is taken to have the student's rank.
    like = "student" if of == "adapter" else "base"
    assert held == pytest.approx(taught.peak.peak[f"weights of the {like}"])
    # Beside rollouts: the first of a process makes a rotary table that later ones find.
    beside = [each.peak.bytes - each.peak.peak[ROLLOUT] for each in (taught, alone)]
    assert beside[0] > beside[1]
    assert (
        taught.calls["teacher-other" if of == "adapter" else "other"] == taught.calls["base"] == alone.calls["base"] > 0
    )
    assert taught.flops > alone.flops


def test_a_gpu_takes_norms_in_float32() -> None:
    plan, shape = recipe("run.precision=bf16"), batch_shape("qwen-image-2.1", "t2i", 12)
    here, there = (forecast(plan, shape, 4, on_gpu=on, size=size("qwen-image-2.1")).peak.bytes for on in (False, True))
    assert here < there < 1.5 * here


def test_the_real_sizes_are_known_without_their_files() -> None:
    billions = {
        name: size_of_model(name).parameters / 1e9 for name in ("Qwen/Qwen-Image-2.1", "Qwen/Qwen-Image-Edit-2511")
    }
    billions["klein"] = size_of_model("black-forest-labs/FLUX.2-klein-base-4B").parameters / 1e9
    for name in ("FLUX.2-klein-base-9B", "Tongyi-MAI/Z-Image", "meituan-longcat/LongCat-Image-Edit"):
        billions[name] = size_of_model(name).parameters / 1e9
    assert [round(n, 1) for n in billions.values()] == [7.1, 20.4, 3.9, 9.1, 6.2, 6.3]


def test_an_offloaded_teacher_counts_while_it_visits() -> None:
    shape, kind = batch_shape("qwen-image-2.1", "t2i", 4), size("qwen-image-2.1")
    keys = "teachers.preset=constant", "teachers.named={other: {model: other, place: offloaded}}"
    phases = forecast(recipe(*keys), shape, 1, on_gpu=False, size=kind).phases
    held = [(phase.name, phase.peak["weights of teacher other"]) for phase in phases]
    visit = next(number for number, (name, _) in enumerate(held) if name == "teachers")
    assert not any(taken for _, taken in held[:visit])
    assert held[visit + 1][0] == "critic"
    assert held[visit][1] - held[visit + 1][1] == pytest.approx(4 * kind.parameters, rel=0.01)
