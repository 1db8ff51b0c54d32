"""What a run will need, told before it runs: memory by purpose, operations, disk.

An iteration is rehearsed on hollow models of few blocks. Blocks are alike, so every figure of a phase is an affine
function of their number: it is counted at two depths and led on to the model's own. A model of few blocks is rehearsed
whole.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from fewstep.backbones.hollow import Indexed, Size, as_on_gpu, hollow, size_of_model
from fewstep.budget.ledger import WORK, Phase
from fewstep.budget.rehearsal import Rehearsed, Told, rehearse
from fewstep.device import PRECISIONS
from fewstep.lora.factors import Factors
from fewstep.recipe import Recipe
from fewstep.roles.adapters import linear_shapes
from fewstep.roles.assemble import Sources

SHALLOW, STEP = 2, 2  # blocks of each kind, and how many more the second rehearsal has
WHOLE = 6  # up to so many blocks of a kind a model is rehearsed as it is


@dataclass(frozen=True)
class TaskForecast:
    """One iteration of a task on one GPU. calls: forwards of each role."""

    told: Told
    samples: int
    phases: tuple[Phase, ...]
    calls: Mapping[str, int]
    updates: int

    @property
    def peak(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def flops(self) -> int:
        """Of an iteration: the critic's update is rehearsed once."""
        once = next(phase.flops for phase in self.phases if phase.name == "critic")
        return sum(phase.flops for phase in self.phases) + (self.updates - 1) * once


def forecast(
    recipe: Recipe, told: Told, samples: int, on_gpu: bool, size: Size | None = None, whole: int = WHOLE
) -> TaskForecast:
    """samples: of a batch on one GPU. on_gpu: as a CUDA device rounds, which takes more than a CPU. whole: up to so many
    blocks of a kind are rehearsed as they are."""
    size = size or size_of_model(recipe.model)
    depths = size.depths
    counted = {key: min(n, SHALLOW) if max(depths.values()) > whole else n for key, n in depths.items()}
    base = _rehearsed(recipe, told, samples, on_gpu, size, counted)
    slopes = []
    for key, n in depths.items():
        if n > counted[key]:
            deeper = _rehearsed(recipe, told, samples, on_gpu, size, {**counted, key: counted[key] + STEP})
            slopes.append((deeper, (n - counted[key]) / STEP))
    phases = tuple(_led_on(number, base, slopes) for number in range(len(base.phases)))
    return TaskForecast(told, samples, phases, _calls(base, recipe), recipe.critic.updates)


def _rehearsed(
    recipe: Recipe, told: Told, samples: int, on_gpu: bool, size: Size, depths: Mapping[str, int]
) -> Rehearsed:
    dtype = PRECISIONS[recipe.run.precision]
    backbone = hollow(size, depths, dtype)
    tasks = recipe.negatives((told.task,), backbone.default_guidance)
    batch = told.batch(samples, backbone.latent_channels, tasks[told.task], dtype)
    if on_gpu:
        as_on_gpu(backbone.transformer)
    with Indexed():
        return rehearse(backbone, recipe, batch, _sources(recipe, backbone, size, depths))


def _sources(recipe: Recipe, backbone: Any, size: Size, depths: Mapping[str, int]) -> Sources:
    """Specialised teachers that are not there either: a LoRA of the student's rank on the family's usual modules."""
    shapes, rank = linear_shapes(backbone.transformer), recipe.student.adapter.rank

    def adapter(source: str) -> dict[str, Factors]:
        return {
            name: Factors(torch.zeros(rank, columns), torch.zeros(rows, rank), float(rank))
            for name, (rows, columns) in shapes.items()
            if name.endswith(tuple(backbone.lora_targets))
        }

    def model(source: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
        return hollow(size, depths, dtype).transformer

    return Sources(adapter, model)


def _led_on(number: int, base: Rehearsed, slopes: list[tuple[Rehearsed, float]]) -> Phase:
    at = base.phases[number]
    peak: Counter[str] = Counter(at.peak)
    flops = float(at.flops)
    for deeper, times in slopes:
        for purpose in deeper.phases[number].peak | at.peak:
            peak[purpose] += round(times * (deeper.phases[number].peak[purpose] - at.peak[purpose]))
        flops += times * (deeper.phases[number].flops - at.flops)
    return Phase(at.name, +peak, round(flops))


def _calls(base: Rehearsed, recipe: Recipe) -> dict[str, int]:
    """Forwards of an iteration by role; of the critic's, one is to ask it, the others are updates."""
    calls = dict(base.calls)
    calls["critic"] = calls.get("critic", 0) + recipe.critic.updates - 1
    return calls


def sharded(peak: Phase, gpus: int, gathered: int) -> Phase:
    """The same on each of several GPUs that hold a share of all weights, gradients, moments and averages, and gather
    a block's weights (`gathered` bytes) when they use it."""
    if gpus == 1:
        return peak
    whole = (WORK, "rollout states, prefix", "conditioning")
    shares = {name: n if name in whole else -(-n // gpus) for name, n in peak.peak.items()}
    shares[WORK] = shares.get(WORK, 0) + gathered
    return replace(peak, peak=Counter(shares))
