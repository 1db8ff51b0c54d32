"""Specialised pocket teachers: LoRAs over the pocket teacher, post-trained on clean pairs of one kind.

This corresponds to the post-training of a released model. The pocket teacher's corpus has caption noise
(`caption_noise.py`); a specialist's is exact and narrow: one category in one light, or edits. A specialist follows its
prompts better than the base does. Its pictures differ less from seed to seed, unless it replays some of the base's
corpus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.lora import Lora, write_lora
from fewstep.flow.rng import NamedRNG
from fewstep.pocket.build import (
    TEACHER,
    Pipeline,
    load_pocket_teacher,
)
from fewstep.pocket.captions import caption
from fewstep.pocket.cases import propose
from fewstep.pocket.edits import edit_images
from fewstep.pocket.render import render
from fewstep.pocket.world import (
    random_scene,
)
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.plan import AdapterPlan
from fewstep.roles.validation import truncated_lora
from fewstep.runtime.cpu_bfloat16 import fast_bfloat16
from fewstep.runtime.seeded import seeded_random
from pocket_making import vae
from pocket_making.corpus import (
    EDIT_MIX,
    LONGEST,
    corpus_sample,
    tokenizer,
)
from pocket_making.training_batches import (
    BatchConfig,
    Corpus,
    TrainingBatches,
)

KINDS = ("portrait", "text", "edit", "editor")
# Shares of the kinds of edit: as in the base's corpus, or with the base's weak kinds more often and for longer.
EDIT_MIXES = {
    "edit": EDIT_MIX,
    "editor": {"text": 0.20, "identity": 0.16, "object": 0.16, "scene": 0.10, "perceptual": 0.08, "style": 0.30},
}
NAME = "specialist"

SPECIALIST_BATCH_CONFIG = BatchConfig(null_batches=0.0, null_samples=0.02)

Example = tuple[str, list[np.ndarray]]


@dataclass(frozen=True)
class FinetuneConfig:
    """Numbers of a specialist's training; all ours."""

    examples: int = 6000
    rank: int = 16
    batch: int = 64
    learning_rate: float = 1e-3
    ema: float = 0.99
    batch_config: BatchConfig = SPECIALIST_BATCH_CONFIG
    seed: int = 7
    replay: float = 0.0  # share of the steps on the base's text-to-image corpus, so that edits displace nothing


FINETUNE_CONFIGS = dict.fromkeys(KINDS, FinetuneConfig()) | {
    "editor": FinetuneConfig(examples=12_000, rank=32, replay=0.4)
}
REPLAY = "replay"


def curated_example(kind: str, seed: int, index: int) -> Example:
    """One clean pair: (caption, [picture]) of a category in one light, or (instruction, [source, target]). For REPLAY:
    a sample of the base's corpus, with its caption noise."""
    if kind == REPLAY:
        return corpus_sample("t2i", seed + 3_000_000, index)[1:]
    rng = seeded_random("curated", kind, seed, index)
    if kind not in EDIT_MIXES:
        scene = replace(random_scene(kind, rng, "train"), light=0)
        return caption(scene, rng), [np.asarray(render(scene))]
    what = rng.choices(list(EDIT_MIXES[kind]), list(EDIT_MIXES[kind].values()))[0]
    edit, instruction = propose(what, seed + 2_000_000, index, "train")
    return instruction, [np.asarray(image) for image in edit_images(edit, ("curated", seed, index))]


def curated_corpus(pipeline: Pipeline, kind: str, config: FinetuneConfig) -> Corpus:
    """All examples of this kind, encoded: latents (n, 1 or 2, 16, 64) and token ids padded with -1."""
    ids, shown = np.full((config.examples, LONGEST), -1, np.int16), []
    for row in range(config.examples):
        text, images = curated_example(kind, config.seed, row)
        tokens = tokenizer().encode(text).ids
        ids[row, : len(tokens)] = tokens
        shown.append(np.stack(images))
    stacked = np.stack(shown)
    flat = vae.encode_closed_form(pipeline.vae, stacked.reshape(-1, *stacked.shape[2:]))
    return Corpus(flat.unflatten(0, stacked.shape[:2]).half(), torch.from_numpy(ids))


def specialise(
    kind: str,
    to: Path,
    minutes: float,
    config: FinetuneConfig | None = None,
    start: str | None = None,
    base: Path = TEACHER,
    log: Callable[[str], None] = print,
) -> Path:
    """Trains the specialist of this kind for some minutes and writes its LoRA file into the folder `to`.

    Args:
        config: the default is FINETUNE_CONFIGS[kind].
        start: a LoRA to continue from: a file, or one of the embedded ones.

    Raises:
        AdapterError: `start` cannot be read, or fits another model.
    """
    config = config or FINETUNE_CONFIGS[kind]
    pipeline = load_pocket_teacher(base)
    adapters = Adapters(pipeline.transformer, autocast=fast_bfloat16())
    plan = AdapterPlan(rank=config.rank, alpha=float(config.rank))
    given = truncated_lora(start, linear_shapes(pipeline.transformer), config.rank)[0] if start is not None else {}
    adapters.add(NAME, plan, QwenImage21.lora_targets, NamedRNG(config.seed))
    adapters.start_from(NAME, given)
    data = {kind: curated_corpus(pipeline, kind, config)}
    if config.replay:
        data[REPLAY] = curated_corpus(pipeline, REPLAY, config)
    log(f"{config.examples:,} curated examples of {' and of '.join(data)}")
    learned = adapters.parameters(NAME)
    average = {name: weight.detach().clone() for name, weight in learned.items()}
    with adapters.active(NAME):
        steps = _learn(
            TrainingBatches(pipeline, config.batch_config), kind, data, learned, average, minutes, config, log
        )
    rounded = {name: weight.bfloat16().float() for name, weight in average.items()}
    written = write_lora(Lora.of(rounded, float(config.rank)), to, dtype=torch.bfloat16)
    log(f"{steps} steps; wrote {written}")
    return written


def _learn(
    training_batches: TrainingBatches,
    kind: str,
    data: Mapping[str, Corpus],
    learned: dict[str, nn.Parameter],
    average: dict[str, torch.Tensor],
    minutes: float,
    config: FinetuneConfig,
    log: Callable[[str], None],
) -> int:
    """Flow matching until the minutes are spent, with the learning rate falling to 0. Returns the number of steps."""
    optimiser = torch.optim.AdamW(learned.values(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    began, last_log, step, sums = time.monotonic(), 0.0, 0, []
    while (spent := (time.monotonic() - began) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 20, (1 - spent) / 0.4)
        rng = torch.Generator().manual_seed(1_000_003 * step + config.seed)
        taught = REPLAY if config.replay and float(torch.rand((), generator=rng)) < config.replay else kind
        loss = training_batches.loss(data[taught], rng, config.batch)
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
            log(f"{kind} {spent:.0%} step {step} loss {np.mean(sums):.4f}")
            sums = []
    return step
