"""A LoRA over a pocket teacher, trained by flow matching on clean pairs: the loop that all specialists share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.lora import Lora, write_lora
from fewstep.flow.rng import NamedRNG
from fewstep.pocket.build import Pipeline
from fewstep.pocket.lora_world import STATED
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.plan import AdapterPlan
from fewstep.roles.validation import truncated_lora
from fewstep.runtime.cpu_bfloat16 import fast_bfloat16
from pocket_making.probe_train import Clock, minutes_spent
from pocket_making.training_batches import BatchConfig, Corpus, TrainingBatches

NAME = "specialist"
Drawn = Callable[[torch.Generator], Corpus]  # the samples that a step learns from
Log = Callable[[str], None]

SPECIALIST_BATCH_CONFIG = BatchConfig(null_batches=0.0, null_samples=0.02)


@dataclass(frozen=True)
class LoraTrainingConfig:
    """Numbers of a LoRA's training; all ours."""

    examples: int = 6000
    rank: int = 16
    batch: int = 64
    learning_rate: float = 1e-3
    ema: float = 0.99
    batch_config: BatchConfig = SPECIALIST_BATCH_CONFIG
    seed: int = 7

    def limited_to(self, low: float, high: float) -> Self:
        """The same, learnt over a part of the time range."""
        return replace(self, batch_config=replace(self.batch_config, times=(low, high)))


def begin_lora(pipeline: Pipeline, config: LoraTrainingConfig, start: str | None) -> Adapters:
    """The LoRA to train, over the pipeline's transformer.

    start: a LoRA to continue from: a file, or one of the embedded ones.

    Raises:
        AdapterError: `start` cannot be read, or fits another model.
    """
    adapters = Adapters(pipeline.transformer, autocast=fast_bfloat16())
    plan = AdapterPlan(rank=config.rank, alpha=float(config.rank))
    given = truncated_lora(start, linear_shapes(pipeline.transformer), config.rank)[0] if start is not None else {}
    adapters.add(NAME, plan, QwenImage21.lora_targets, NamedRNG(config.seed))
    adapters.start_from(NAME, given)
    return adapters


def train_lora(
    pipeline: Pipeline,
    adapters: Adapters,
    drawn: Drawn,
    to: Path,
    minutes: float,
    iterations: int | None,
    config: LoraTrainingConfig,
    label: str,
    world: str,
    log: Log,
) -> Path:
    """Trains what `begin_lora` made, for some minutes or, if given, for so many iterations, and writes the LoRA file
    into the folder `to`. world: which the teacher is of; the file states it."""
    learned = adapters.parameters(NAME)
    average = {name: weight.detach().clone() for name, weight in learned.items()}
    with adapters.active(NAME):
        training_batches = TrainingBatches(pipeline, config.batch_config)
        spent = minutes_spent(minutes) if iterations is None else iterations_spent(iterations)
        steps = _learn(training_batches, drawn, learned, average, spent, config, label, log)
    rounded = {name: weight.bfloat16().float() for name, weight in average.items()}
    written = write_lora(Lora.of(rounded, float(config.rank)), to, torch.bfloat16, {STATED: world})
    log(f"{steps} steps; wrote {written}")
    return written


def iterations_spent(iterations: int) -> Clock:
    return lambda step: step / iterations


def _learn(
    training_batches: TrainingBatches,
    drawn: Drawn,
    learned: dict[str, nn.Parameter],
    average: dict[str, torch.Tensor],
    spent: Clock,
    config: LoraTrainingConfig,
    label: str,
    log: Log,
) -> int:
    """Flow matching until all is spent, with the learning rate falling to 0. Returns the number of steps."""
    optimiser = torch.optim.AdamW(learned.values(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    last_log, step, sums = 0.0, 0, []
    while (share := spent(step)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 20, (1 - share) / 0.4)
        rng = torch.Generator().manual_seed(1_000_003 * step + config.seed)
        loss = training_batches.loss(drawn(rng), rng, config.batch)
        loss.backward()
        nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        keep = min(config.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_([*average.values()], [learned[name].detach() for name in average], 1 - keep)
        sums.append(loss.item())
        step += 1
        if time.monotonic() - last_log > 20:
            last_log = time.monotonic()
            log(f"{label} {share:.0%} step {step} loss {np.mean(sums):.4f}")
            sums = []
    return step
