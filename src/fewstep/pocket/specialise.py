"""Specialised pocket teachers: LoRAs over the pocket teacher, post-trained on clean pairs of one kind.

What post-training is to a released model, this is to the pocket teacher: its corpus was careless (`hearsay.py`), a
specialist's is exact and narrow - one category in one light, or edits. It follows its prompts better than the base
does, and its pictures differ less from seed to seed, unless it replays some of the base's corpus.
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
from fewstep.flow.noise import Draw
from fewstep.pocket import vae
from fewstep.pocket.build import TEACHER, Pipeline, load
from fewstep.pocket.captions import caption
from fewstep.pocket.cases import propose
from fewstep.pocket.corpus import EDIT_MIX, LONGEST, sample, tokenizer
from fewstep.pocket.draw import render
from fewstep.pocket.edits import pictures
from fewstep.pocket.lessons import TOKENS, Corpus, Habits, Lessons
from fewstep.pocket.world import draw_by_lot, random_scene
from fewstep.roles.adapters import Adapters, linear_shapes
from fewstep.roles.plan import AdapterPlan
from fewstep.roles.vetting import narrowed

SPECIALISTS = Path(__file__).parent / "specialists"
KINDS = ("portrait", "text", "edit", "editor")
# What the kinds that learn edits see: as often as the base did, or its weak kinds more often and for longer.
EDIT_MIXES = {
    "edit": EDIT_MIX,
    "editor": {"text": 0.20, "identity": 0.16, "object": 0.16, "scene": 0.10, "perceptual": 0.08, "style": 0.30},
}
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
    replay: float = 0.0  # of the steps: text to image as the base learned it, so that edits displace nothing


COURSES = dict.fromkeys(KINDS, Course()) | {"editor": Course(examples=12_000, rank=32, replay=0.4)}
REPLAY = "replay"


def curated(kind: str, seed: int, index: int) -> Example:
    """One clean pair: (caption, [picture]) of a category in one light, or (instruction, [source, target]). Of REPLAY:
    what the base was taught, careless captions and all."""
    if kind == REPLAY:
        return sample("t2i", seed + 3_000_000, index)[1:]
    rng = draw_by_lot("curated", kind, seed, index)
    if kind not in EDIT_MIXES:
        scene = replace(random_scene(kind, rng, "train"), light=0)
        return caption(scene, rng), [np.asarray(render(scene))]
    what = rng.choices(list(EDIT_MIXES[kind]), list(EDIT_MIXES[kind].values()))[0]
    edit, instruction = propose(what, seed + 2_000_000, index, "train")
    return instruction, [np.asarray(image) for image in pictures(edit, ("curated", seed, index))]


def curated_corpus(pipeline: Pipeline, kind: str, course: Course) -> Corpus:
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
    course: Course | None = None,
    start: str | None = None,
    base: Path = TEACHER,
    log: Callable[[str], None] = print,
) -> Path:
    """Train the specialist of this kind for some minutes and write its LoRA file into the folder `to`.

    Args:
        course: its kind's own unless given.
        start: a LoRA to go on from: a file, or one of the embedded ones.

    Raises:
        AdapterError: `start` cannot be read, or fits another model.
    """
    course = course or COURSES[kind]
    pipeline = load(base)
    adapters = Adapters(pipeline.transformer, autocast=True)
    plan = AdapterPlan(rank=course.rank, alpha=float(course.rank))
    given = narrowed(start, linear_shapes(pipeline.transformer), course.rank)[0] if start is not None else {}
    adapters.add(NAME, plan, QwenImage21.lora_targets, Draw(course.seed))
    adapters.start_from(NAME, given)
    data = {kind: curated_corpus(pipeline, kind, course)}
    if course.replay:
        data[REPLAY] = curated_corpus(pipeline, REPLAY, course)
    log(f"{course.examples:,} curated examples of {' and of '.join(data)}")
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
    data: Mapping[str, Corpus],
    learned: dict[str, nn.Parameter],
    average: dict[str, torch.Tensor],
    minutes: float,
    course: Course,
    log: Callable[[str], None],
) -> int:
    """Flow matching until the minutes are spent, the rate falling to 0; the number of steps."""
    optimiser = torch.optim.AdamW(learned.values(), lr=course.rate, betas=(0.9, 0.98), weight_decay=0.0)
    begun, told, step, sums = time.monotonic(), 0.0, 0, []
    while (spent := (time.monotonic() - begun) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = course.rate * min(1.0, (step + 1) / 20, (1 - spent) / 0.4)
        rng = torch.Generator().manual_seed(1_000_003 * step + course.seed)
        taught = REPLAY if course.replay and float(torch.rand((), generator=rng)) < course.replay else kind
        loss = lessons.loss("edit" if taught in EDIT_MIXES else "t2i", data[taught], rng, course.batch)
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
