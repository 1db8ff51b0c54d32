"""What a plan says of blocks in host memory, against iterations that swap in earnest: bytes as the CPU's allocator
gives them out, and copies as they are made."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fewstep.backbones.base_weights import hold_base_as
from fewstep.backbones.blocks import blocks
from fewstep.backbones.fake_model import ModelSize, size_of_model
from fewstep.roles.block_swap import swap_blocks
from fewstep.roles.build import FILE_LOADERS
from fewstep.roles.host_block import Courier, HostBlock
from fewstep.roles.teacher_plan import BASE
from fewstep.run.budget.forecast import forecast
from fewstep.run.budget.host_blocks import HostBlocks, host_blocks
from fewstep.run.budget.op_counter import PLACES
from fewstep.run.budget.question import PCIE_GBS
from fewstep.run.budget.rehearsal import rehearse
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.errors import RecipeError
from tests.run.budget.test_rehearsal import batch_shape, most_bytes, recipe, size

LAYERS, SWAPPED = 4, 4


def deep(family: str = "qwen-image-2.1") -> ModelSize:
    """Blocks so wide that they outweigh what they compute."""
    small = size(family)
    return replace(small, config={**small.config, "num_layers": LAYERS, "num_attention_heads": 6})


def swapping(*keys: str, number: int = SWAPPED) -> Recipe:
    rank = ["student.adapter.rank=2", "critic.adapter.rank=2", "critic.updates=1", "objective.first_step_anchor=null"]
    return recipe("run.gradient_checkpointing=full", *rank, *keys, f"run.blocks_to_swap={number}")


@pytest.mark.slow  # an iteration is rehearsed, and run under a profiler
@pytest.mark.parametrize("keys", [(), ("run.base_weights=int8", "run.gradient_accumulation=2")])
def test_device_and_host_memory_are_forecast_within_a_tenth(keys: tuple[str, ...]) -> None:
    """On a CPU the allocator gives out both."""
    kind, shape = deep(), batch_shape("qwen-image-2.1", "edit", 4)
    plan, whole = swapping(*keys), swapping(*keys, number=0)
    host = host_blocks(plan, kind.transformer)
    expected, without = (forecast(one, shape, 2, on_gpu=False, size=kind).peak for one in (plan, whole))
    saved = host.bytes * (SWAPPED - 2) / SWAPPED
    assert without.bytes - expected.bytes == pytest.approx(saved, rel=1e-6)
    assert saved > 0.12 * without.bytes, "else a tenth would tell nothing"
    assert expected.bytes + host.bytes == pytest.approx(most_bytes(plan, kind, shape, 2), rel=0.1)


@pytest.mark.parametrize("how", ["full", pytest.param("selective", marks=pytest.mark.slow)])
def test_the_device_alone_holds_what_is_forecast(how: str) -> None:
    """Counted by what it is for in an iteration that swaps, of real tensors."""
    kind, shape, plan = deep(), batch_shape("qwen-image-2.1", "t2i", 4), swapping(f"run.gradient_checkpointing={how}")
    backbone = kind.family.random(kind.config, dtype=torch.float32)
    batch = zero_batch(shape, 2, backbone.latent_channels, ("",), torch.float32)
    real = max(rehearse(backbone, plan, batch, FILE_LOADERS).phases, key=lambda phase: phase.bytes)
    expected = forecast(plan, shape, 2, on_gpu=False, size=kind).peak
    assert real.bytes == pytest.approx(expected.bytes, rel=0.02)
    assert real.peak[PLACES] == pytest.approx(expected.peak[PLACES], rel=0.02)
    assert real.peak["weights of the base"] == pytest.approx(expected.peak["weights of the base"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [(), ("run.gradient_accumulation=2",)])
def test_what_travels_is_what_is_sent(keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    kind, shape = deep(), batch_shape("qwen-image-2.1", "t2i", 4)
    plan = swapping("critic.exit_step=drawn", *keys)
    sent: list[int] = []
    send = Courier.send
    monkeypatch.setattr(Courier, "send", lambda self, block: sent.append(block.bytes) or send(self, block))
    backbone: Any = kind.family.random(kind.config, dtype=torch.float32)
    batch = zero_batch(shape, 2, backbone.latent_channels, ("",), torch.float32)
    rehearse(backbone, plan, batch, FILE_LOADERS, plan.run.gradient_accumulation)
    told = host_blocks(plan, kind.transformer).transfers(forecast(plan, shape, 2, on_gpu=False, size=kind), 1e12, 25e9)
    assert told.bytes == pytest.approx(sum(sent), rel=0.1)
    assert told.seconds == pytest.approx(told.bytes / 25e9, rel=1e-6)


@pytest.mark.parametrize("family", ["qwen-image-2.1", "qwen-image", "flux2-klein", "flux3-klein", "z-image"])
@pytest.mark.parametrize("held", ["precision", "int8", "fp8-w8a8"])
def test_bytes_of_blocks_are_those_of_real_ones(family: str, held: BaseWeights) -> None:
    kind = size(family)
    made = kind.family.random(kind.config, dtype=torch.float32).transformer
    number = len(blocks(made))
    hold_base_as(made, held)
    real = [HostBlock(block, pinned=False).bytes for block in blocks(made)]
    recipe_of = swapping(f"run.base_weights={held}", number=max(3, number))
    if number < 3:
        recipe_of = recipe_of.model_copy(update={"run": recipe_of.run.model_copy(update={"blocks_to_swap": number})})
    told = host_blocks(recipe_of, kind.transformer).swapped[BASE]
    assert list(told) == pytest.approx(real, rel=0.08)  # weights begin at multiples of 256 bytes


# ---- time


def test_a_transfer_that_outlasts_its_computation_is_waited_for() -> None:
    host, shape = HostBlocks({BASE: (4 * 10**9,)}, {}), batch_shape("qwen-image-2.1", "t2i", 8)
    counted = forecast(recipe("run.gradient_checkpointing=full"), shape, 2, False, size("qwen-image-2.1"))
    slow, fast = (host.transfers(counted, speed, 4e9) for speed in (1.0, 1e30))
    assert slow.waited == 0, "a slow GPU hides all of it"
    assert fast.waited == pytest.approx(fast.seconds), "a fast one nothing"
    passes = sum(times * (2 if call.learns else 1) for call, times in counted.passes())
    assert fast.seconds == pytest.approx(passes), "a second each"
    between = host.transfers(counted, counted.flops / passes, 4e9)
    assert 0 < between.waited < between.seconds


@pytest.mark.parametrize(
    "keys",
    [
        ("run.gradient_accumulation=3", "critic.updates=3", "student.steps=4"),
        pytest.param(("critic.updates=3", "critic.rollouts=fresh", "student.steps=4"), marks=pytest.mark.slow),
        pytest.param(("critic.exit_step=drawn", "student.prefix_gradient=stopped"), marks=pytest.mark.slow),
    ],
)
def test_passes_are_those_of_the_iteration(keys: tuple[str, ...]) -> None:
    counted = forecast(recipe(*keys), batch_shape("qwen-image-2.1", "edit", 8), 6, False, size("qwen-image-2.1"))
    assert sum(times * call.flops for call, times in counted.passes()) == pytest.approx(counted.flops, rel=1e-6)
    assert sum(times for _, times in counted.passes()) == pytest.approx(sum(counted.calls.values()))


def test_the_declared_rate_is_what_pcie_gives_less_a_fifth() -> None:
    assert pytest.approx(0.8 * 16 * 16 * 128 / 130 / 8, rel=0.01) == PCIE_GBS


# ---- which


def test_a_swapped_teacher_holds_two_blocks_and_travels_by_its_own_forwards() -> None:
    shape, kind = batch_shape("qwen-image-2.1", "t2i", 4), deep()
    keys = "teachers.preset=constant", "teachers.named={other: {model: other, place: PLACE}}"
    taken, of_place = {}, {}
    for place in ("resident", "swapped"):
        plan = swapping(keys[0], keys[1].replace("PLACE", place), number=0)
        taken[place], of_place[place] = forecast(plan, shape, 1, False, kind), host_blocks(plan, kind.transformer)
    sizes = of_place["swapped"].swapped["other"]
    assert (len(sizes), of_place["resident"].bytes) == (LAYERS, 0)
    gone = taken["resident"].peak.bytes - taken["swapped"].peak.bytes
    assert gone == pytest.approx(sum(sizes) * (LAYERS - 2) / LAYERS)
    calls = sum(times for call, times in taken["swapped"].passes() if call.network == "other")
    assert of_place["swapped"].transfers(taken["swapped"], 1e12, 1e9).bytes == round(calls * sum(sizes))
    assert calls == taken["swapped"].calls["other"]


def test_an_offloaded_teacher_waits_whole() -> None:
    plan = recipe("teachers.preset=constant", "teachers.named={other: {model: other, place: offloaded}}")
    kind = deep()
    assert host_blocks(plan, kind.transformer).bytes == 4 * kind.parameters


def test_a_teacher_without_weight_is_not_loaded() -> None:
    plan = recipe("teachers.preset=base-only", "teachers.named={other: {model: other, place: swapped}}")
    assert host_blocks(plan, deep().transformer).bytes == 0


def test_more_blocks_than_there_are_are_refused() -> None:
    with pytest.raises(RecipeError, match="blocks_to_swap is 5, and this model has 4 blocks: give at most 4"):
        host_blocks(swapping(number=5), deep().transformer)


@pytest.mark.parametrize(("model", "count"), [("Qwen/Qwen-Image-2.1", 32), ("Qwen/Qwen-Image-Edit-2511", 60)])
def test_real_sizes(model: str, count: int) -> None:
    plan = load_recipe("qwen-image-2.1", {"model": model, "run.blocks_to_swap": count})
    kind = size_of_model(model)
    told = host_blocks(plan, kind.transformer)
    assert len(told.swapped[BASE]) == count
    assert 0.95 * 2 * kind.parameters < told.bytes < 2 * kind.parameters, "nearly all weights are in blocks"


def test_swapped_in_earnest_and_by_plan_are_the_same_blocks() -> None:
    kind = deep()
    made: Any = kind.family.random(kind.config, dtype=torch.float32)
    swap = swap_blocks(made.transformer, SWAPPED, made.device)
    assert host_blocks(swapping(), kind.transformer).bytes == pytest.approx(swap.bytes, rel=0.01)
