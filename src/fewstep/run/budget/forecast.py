"""Forecasts what a run will need before it runs: memory by purpose, operations, disk.

An iteration is rehearsed on fake models of few blocks. All blocks are alike, so every figure of a phase is an affine
function of their number. It is counted at two depths and extrapolated to the depth of the model. A model of few blocks
is rehearsed with all of them.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import nn

from fewstep.backbones.fake_model import (
    ModelSize,
    RealMaskIndexing,
    fake_mode,
    fake_model,
    mimic_gpu_autocast,
    size_of_model,
)
from fewstep.backbones.shape_tensor import has_shapes, make_shapes
from fewstep.lora.factors import Factors
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.build import TeacherLoaders
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.fake_ranks import fake_ranks
from fewstep.run.budget.host_blocks import all_on_device, host_blocks
from fewstep.run.budget.kept_forecasts import forecast_key, keep_forecast, read_forecast
from fewstep.run.budget.op_counter import (
    CONDITIONING,
    ROLLOUT,
    Phase,
)
from fewstep.run.budget.rehearsal import RehearsalResult, rehearse
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.budget.zero_batch import zero_batch
from fewstep.run.levels import levels_for
from fewstep.run.recipe import Recipe
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.task import Task

PARTS = 2  # of a batch that are rehearsed: the second runs beside the gradients of the first, as all later ones do
SHALLOW, STEP = 2, 1  # blocks of each kind, and how many more the second rehearsal has
SHARDED_SHALLOW = 4  # with sharded weights: a block in the middle has neighbours that are gathered at the same time
WHOLE = 6  # up to so many blocks of a kind a model is rehearsed as it is


def forecast(
    recipe: Recipe,
    batch_shape: BatchShape,
    samples: int,
    on_gpu: bool,
    size: ModelSize | None = None,
    whole: int = WHOLE,
    ranks: Ranks = SINGLE_RANK,
) -> TaskForecast:
    """Forecasts one iteration. What was counted before is read from the user's cache.

    Args:
        samples: the samples of a batch on one GPU.
        on_gpu: with the dtypes of autocast on a CUDA device, which take more memory than those on a CPU.
        whole: a model with at most so many blocks of a kind is rehearsed with all of them.
        ranks: the ranks of the run, of which the first is rehearsed.
    """
    size = size or size_of_model(recipe.model)
    waiting = host_blocks(recipe, size.transformer)
    recipe = all_on_device(recipe.model_copy(update={"run": recipe.run.of_task(batch_shape.task)}))
    recipe, _ = levels_for(recipe, size)
    key = forecast_key(recipe, size, ranks, shape=asdict(batch_shape), samples=samples, on_gpu=on_gpu, whole=whole)
    held = read_forecast(key)
    if held is None:
        held = _counted(recipe, batch_shape, samples, on_gpu, size, whole, ranks)
        keep_forecast(key, held)
    return waiting.off_the_device(held)


def forecast_like(
    other: TaskForecast, recipe: Recipe, batch_shape: BatchShape, on_gpu: bool, size: ModelSize, ranks: Ranks
) -> TaskForecast:
    """`forecast` of as many samples of another shape; the same one where both have equally many tokens."""
    if batch_shape.tokens == other.batch_shape.tokens:
        return other
    return forecast(recipe, batch_shape, other.samples, on_gpu, size, ranks=ranks)


def _counted(
    recipe: Recipe, batch_shape: BatchShape, samples: int, on_gpu: bool, size: ModelSize, whole: int, ranks: Ranks
) -> TaskForecast:
    parts = recipe.run.parts(batch_shape.task)
    some = min(parts, PARTS)
    rehearsed = some * -(-samples // parts)
    depths = size.depths
    shallow = SHALLOW if ranks.world == 1 or recipe.run.sharding == "off" else SHARDED_SHALLOW
    counted = {key: min(n, shallow) if max(depths.values()) > whole else n for key, n in depths.items()}
    slopes = []
    with fake_ranks(ranks) as here:
        base = _rehearsed(recipe, batch_shape, rehearsed, some, on_gpu, size, counted, here)
        for key, n in depths.items():
            if n > counted[key]:
                more = {**counted, key: counted[key] + STEP}
                deeper = _rehearsed(recipe, batch_shape, rehearsed, some, on_gpu, size, more, here)
                slopes.append((deeper, (n - counted[key]) / STEP))
    phases = [_extrapolated(number, base, slopes) for number in range(len(base.phases))]
    skipped_steps, critic = _skipped_steps(recipe, batch_shape.task), recipe.critic
    rollouts, of_all = 1 + critic.new_rollouts(1), 1 + critic.new_rollouts(critic.updates)
    calls = _calls(base, critic.updates, parts, some)
    a_rollout = next(phase.calls for phase in phases if phase.name == "rollout")
    calls["student"] += parts * ((of_all - rollouts) * a_rollout - of_all * skipped_steps)
    return TaskForecast(
        batch_shape, samples, parts, rehearsed, tuple(_holding(phase, samples / rehearsed) for phase in phases),
        calls, critic.updates, skipped_steps, rollouts, of_all - rollouts, recipe.run.recomputation(batch_shape.task),
    )  # fmt: skip


def _skipped_steps(recipe: Recipe, task: Task) -> float:
    """Steps of the rollout that are not run, in the mean over exit steps: those after the exit step."""
    last, first = recipe.student.steps - 1, recipe.objective.first_matched_step(task)
    return (last - first) / 2 if recipe.critic.exit_step == "same" else 0.0


def _rehearsed(
    recipe: Recipe,
    batch_shape: BatchShape,
    samples: int,
    parts: int,
    on_gpu: bool,
    size: ModelSize,
    depths: Mapping[str, int],
    ranks: Ranks,
) -> RehearsalResult:
    dtype = PRECISIONS[recipe.run.precision]
    backbone = fake_model(size, depths, dtype)
    sharded = ranks.world > 1 and recipe.run.sharding != "off"
    if not sharded:  # FSDP2 resizes storages under their tensors: only fakes bear it
        make_shapes(backbone.transformer)
    tasks = recipe.negatives((batch_shape.task,), backbone.default_guidance)
    batch = zero_batch(batch_shape, samples, backbone.latent_channels, tasks[batch_shape.task], dtype)
    if on_gpu:
        mimic_gpu_autocast(backbone.transformer)
    with RealMaskIndexing() if sharded else nullcontext():
        return rehearse(backbone, recipe, batch, _sources(recipe, backbone, size, depths, on_gpu), parts, ranks)


def default_lora_shapes(backbone: Any) -> dict[str, tuple[int, ...]]:
    """(out, in) of the linear layers that a LoRA of this family changes by default, by name."""
    shapes, targets = linear_shapes(backbone.transformer), tuple(backbone.lora_targets)
    return {name: shape for name, shape in shapes.items() if name.endswith(targets)}


def _sources(recipe: Recipe, backbone: Any, size: ModelSize, depths: Mapping[str, int], on_gpu: bool) -> TeacherLoaders:
    """Loaders of fake specialised teachers. LoRAs get the student's rank."""
    shapes, rank = default_lora_shapes(backbone), recipe.student.adapter.rank

    def adapter(source: str) -> dict[str, Factors]:
        return {
            name: Factors(torch.zeros(rank, columns), torch.zeros(rows, rank), float(rank))
            for name, (rows, columns) in shapes.items()
        }

    def model(source: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
        transformer = fake_model(size, depths, dtype, fake_mode(backbone.transformer)).transformer
        if has_shapes(backbone.transformer):
            make_shapes(transformer)
        if on_gpu:
            mimic_gpu_autocast(transformer)
        return cast(nn.Module, transformer)

    return TeacherLoaders(adapter, model)


def _extrapolated(number: int, base: RehearsalResult, slopes: list[tuple[RehearsalResult, float]]) -> Phase:
    at = base.phases[number]
    peak: Counter[str] = Counter(at.peak)
    flops, last_call = float(at.flops), float(at.last_call)
    by_call = [float(call.flops) for call in at.by_call]
    for deeper, times in slopes:
        for purpose in deeper.phases[number].peak | at.peak:
            peak[purpose] += round(times * (deeper.phases[number].peak[purpose] - at.peak[purpose]))
        flops += times * (deeper.phases[number].flops - at.flops)
        last_call += times * (deeper.phases[number].last_call - at.last_call)
        for n, (more, less) in enumerate(zip(deeper.phases[number].by_call, at.by_call, strict=True)):
            by_call[n] += times * (more.flops - less.flops)
    calls = tuple(call._replace(flops=round(each)) for call, each in zip(at.by_call, by_call, strict=True))
    return Phase(at.name, +peak, round(flops), round(last_call), at.calls, calls)


def _holding(phase: Phase, batches: float) -> Phase:
    """The phase with what is held for all samples, which are `batches` times the rehearsed ones."""
    held = {purpose: round(phase.peak[purpose] * batches) for purpose in (CONDITIONING, ROLLOUT)}
    return replace(phase, peak=+Counter({**phase.peak, **held}))


def _calls(base: RehearsalResult, updates: int, parts: int, rehearsed: int) -> dict[str, float]:
    """Forwards of an iteration by role, with all steps of the rehearsed rollouts. One of the critic's gives the fake
    score; the others are updates."""
    calls: dict[str, float] = {role: n * parts / rehearsed for role, n in base.calls.items()}
    calls["critic"] += (updates - 1) * parts
    return calls
