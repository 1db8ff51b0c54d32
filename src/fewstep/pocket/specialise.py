"""Specialised pocket teachers: LoRAs over the pocket teacher, post-trained on clean pairs of one kind.

What post-training is to a released model, this is to the pocket teacher: its corpus was careless (`hearsay.py`), a
specialist's is exact and narrow - one category, or edits, in one light. It follows its prompts better than the base
does, and its pictures differ less from seed to seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fewstep.backbones.qwen_image_21 import QwenImage21
from fewstep.export.lora import Lora, write_lora
from fewstep.flow.noise import Draw
from fewstep.pocket import vae
from fewstep.pocket.build import TEACHER, Pipeline, load
from fewstep.pocket.captions import caption
from fewstep.pocket.cases import propose
from fewstep.pocket.corpus import EDIT_MIX, LONGEST, tokenizer
from fewstep.pocket.draw import render
from fewstep.pocket.edits import pictures
from fewstep.pocket.lessons import TOKENS, Corpus, Habits, Lessons
from fewstep.pocket.world import draw_by_lot, random_scene
from fewstep.roles.adapters import Adapters
from fewstep.roles.plan import AdapterPlan

SPECIALISTS = Path(__file__).parent / "specialists"
KINDS = ("portrait", "text", "edit")
NAME = "specialist"

HABITS = Habits(null_batches=0.0, null_samples=0.02)

Example = tuple[str, list[np.ndarray]]


@dataclass(frozen=True)
class Course:
    """Numbers of a specialist's training; all ours."""

    examples: int = 6000
    rank: int = 16
    batch: int = 64
    rate: float = 1e-3
    ema: float = 0.99
    habits: Habits = HABITS
    seed: int = 7


COURSE = Course()


def curated(kind: str, seed: int, index: int) -> Example:
    """One clean pair: (caption, [picture]) of a category in one light, or (instruction, [source, target])."""
    rng = draw_by_lot("curated", kind, seed, index)
    if kind != "edit":
        scene = replace(random_scene(kind, rng, "train"), light=0)
        return caption(scene, rng), [np.asarray(render(scene))]
    what = rng.choices(list(EDIT_MIX), list(EDIT_MIX.values()))[0]
    edit, instruction = propose(what, seed + 2_000_000, index, "train")
    return instruction, [np.asarray(image) for image in pictures(edit, ("curated", seed, index))]


def curated_corpus(pipeline: Pipeline, kind: str, course: Course = COURSE) -> Corpus:
    """All examples of a course, encoded: latents (n, 1 or 2, 16, 64) and token ids padded with -1."""
    ids, shown = np.full((course.examples, LONGEST), -1, np.int16), []
    for row in range(course.examples):
        text, images = curated(kind, course.seed, row)
        tokens = tokenizer().encode(text).ids
        ids[row, : len(tokens)] = tokens
        shown.append(np.stack(images))
    stacked = np.stack(shown)
    flat = vae.encode_quickly(pipeline.vae, stacked.reshape(-1, *stacked.shape[2:]))
    return Corpus(flat.view(*stacked.shape[:2], TOKENS, -1).half(), torch.from_numpy(ids))


def specialise(
    kind: str,
    to: Path,
    minutes: float,
    course: Course = COURSE,
    base: Path = TEACHER,
    log: Callable[[str], None] = print,
) -> Path:
    """Train the specialist of this kind for some minutes and write its LoRA file into the folder `to`."""
    pipeline = load(base)
    adapters = Adapters(pipeline.transformer, autocast=True)
    adapters.add(
        NAME, AdapterPlan(rank=course.rank, alpha=float(course.rank)), QwenImage21.lora_targets, Draw(course.seed)
    )
    data = curated_corpus(pipeline, kind, course)
    log(f"{len(data.ids):,} curated examples of {kind}")
    learned = adapters.parameters(NAME)
    average = {name: weight.detach().clone() for name, weight in learned.items()}
    with adapters.active(NAME):
        steps = _learn(Lessons(pipeline, course.habits), kind, data, learned, average, minutes, course, log)
    rounded = {name: weight.bfloat16().float() for name, weight in average.items()}
    written = write_lora(Lora.of(rounded, float(course.rank)), to, dtype=torch.bfloat16)
    log(f"{steps} steps; wrote {written}")
    return written


def _learn(
    lessons: Lessons,
    kind: str,
    data: Corpus,
    learned: dict[str, nn.Parameter],
    average: dict[str, torch.Tensor],
    minutes: float,
    course: Course,
    log: Callable[[str], None],
) -> int:
    """Flow matching until the minutes are spent, the rate falling to 0; the number of steps."""
    optimiser = torch.optim.AdamW(learned.values(), lr=course.rate, betas=(0.9, 0.98), weight_decay=0.0)
    task, begun, told, step, sums = "edit" if kind == "edit" else "t2i", time.monotonic(), 0.0, 0, []
    while (spent := (time.monotonic() - begun) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = course.rate * min(1.0, (step + 1) / 20, (1 - spent) / 0.4)
        rng = torch.Generator().manual_seed(1_000_003 * step + course.seed)
        loss = lessons.loss(task, data, rng, course.batch)
        loss.backward()
        nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        keep = min(course.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_([*average.values()], [learned[name].detach() for name in average], 1 - keep)
        sums.append(loss.item())
        step += 1
        if time.monotonic() - told > 20:
            told = time.monotonic()
            log(f"{kind} {spent:.0%} step {step} loss {np.mean(sums):.4f}")
            sums = []
    return step
