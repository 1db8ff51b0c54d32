"""Forecasts what a run will need before it runs: memory by purpose, operations, disk.

An iteration is rehearsed on fake models of few blocks. All blocks are alike, so every figure of a phase is an affine
function of their number. It is counted at two depths and extrapolated to the depth of the model. A model of few blocks
is rehearsed with all of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from fewstep.lora.factors import Factors
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.build import TeacherLoaders
from fewstep.run.budget.fake_ranks import fake_ranks
from fewstep.run.budget.op_counter import (
    CONDITIONING,
    ROLLOUT,
    Phase,
)
from fewstep.run.budget.rehearsal import (
    BatchShape,
    RehearsalResult,
    rehearse,
)
from fewstep.run.levels import levels_for
from fewstep.run.recipe import Recipe
from fewstep.runtime.device import PRECISIONS
from fewstep.runtime.parallel import SINGLE_RANK, Ranks
from fewstep.runtime.task import Task

PARTS = 2  # of a batch that are rehearsed: the second runs beside the gradients of the first, as all later ones do
SHALLOW, STEP = 2, 2  # blocks of each kind, and how many more the second rehearsal has
SHARDED_SHALLOW = 4  # with sharded weights: a block in the middle has neighbours that are gathered at the same time
WHOLE = 6  # up to so many blocks of a kind a model is rehearsed as it is


@dataclass(frozen=True)
class TaskForecast:
    """One iteration of a task on one GPU, at the student's last step.

    Args:
        parts: the number of parts into which the samples are cut.
        rehearsed: the number of samples in the rehearsal.
        phases: those of the rehearsal, with what is held for all parts.
        calls: forwards of each role, in the mean over exit steps.
        skipped_steps: steps of the rollout that are not run, in the mean over exit steps.
    """

    batch_shape: BatchShape
    samples: int
    parts: int
    rehearsed: int
    phases: tuple[Phase, ...]
    calls: Mapping[str, float]
    updates: int
    skipped_steps: float

    @property
    def at_once(self) -> int:
        """Samples of the largest part."""
        return -(-self.samples // self.parts)

    @property
    def peak(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def flops(self) -> int:
        """Floating-point operations of the mean iteration. Only one update of the critic is rehearsed, and all steps of
        a rollout are alike."""
        once = next(phase.flops for phase in self.phases if phase.name == "critic")
        step = sum(phase.last_call for phase in self.phases if phase.name == "rollout")
        every = sum(phase.flops for phase in self.phases) + (self.updates - 1) * once - self.skipped_steps * step
        return round(every * self.samples / self.rehearsed)


def forecast(
    recipe: Recipe,
    batch_shape: BatchShape,
    samples: int,
    on_gpu: bool,
    size: ModelSize | None = None,
    whole: int = WHOLE,
    ranks: Ranks = SINGLE_RANK,
) -> TaskForecast:
    """Forecasts one iteration.

    Args:
        samples: the samples of a batch on one GPU.
        on_gpu: with the dtypes of autocast on a CUDA device, which take more memory than those on a CPU.
        whole: a model with at most so many blocks of a kind is rehearsed with all of them.
        ranks: the ranks of the run, of which the first is rehearsed.
    """
    parts = recipe.run.gradient_accumulation
    some = min(parts, PARTS)
    rehearsed = some * -(-samples // parts)
    size = size or size_of_model(recipe.model)
    recipe, _ = levels_for(recipe, size)
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
    skipped_steps, updates = _skipped_steps(recipe, batch_shape.task), recipe.critic.updates
    return TaskForecast(
        batch_shape, samples, parts, rehearsed, tuple(_holding(phase, samples / rehearsed) for phase in phases),
        _calls(base, updates, skipped_steps, parts, some), updates, skipped_steps,
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
    tasks = recipe.negatives((batch_shape.task,), backbone.default_guidance)
    batch = batch_shape.batch(samples, backbone.latent_channels, tasks[batch_shape.task], dtype)
    if on_gpu:
        mimic_gpu_autocast(backbone.transformer)
    with RealMaskIndexing():
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
        if on_gpu:
            mimic_gpu_autocast(transformer)
        return cast(nn.Module, transformer)

    return TeacherLoaders(adapter, model)


def _extrapolated(number: int, base: RehearsalResult, slopes: list[tuple[RehearsalResult, float]]) -> Phase:
    at = base.phases[number]
    peak: Counter[str] = Counter(at.peak)
    flops, last_call = float(at.flops), float(at.last_call)
    for deeper, times in slopes:
        for purpose in deeper.phases[number].peak | at.peak:
            peak[purpose] += round(times * (deeper.phases[number].peak[purpose] - at.peak[purpose]))
        flops += times * (deeper.phases[number].flops - at.flops)
        last_call += times * (deeper.phases[number].last_call - at.last_call)
    return Phase(at.name, +peak, round(flops), round(last_call))


def _holding(phase: Phase, batches: float) -> Phase:
    """The phase with what is held for all samples, which are `batches` times the rehearsed ones."""
    held = {purpose: round(phase.peak[purpose] * batches) for purpose in (CONDITIONING, ROLLOUT)}
    return replace(phase, peak=+Counter({**phase.peak, **held}))


def _calls(base: RehearsalResult, updates: int, skipped_steps: float, parts: int, rehearsed: int) -> dict[str, float]:
    """Forwards of an iteration by role. One of the critic's gives the fake score; the others are updates."""
    calls: dict[str, float] = {role: n * parts / rehearsed for role, n in base.calls.items()}
    calls["student"] -= skipped_steps * parts
    calls["critic"] += (updates - 1) * parts
    return calls
