"""Specialised pocket teachers: LoRAs over the pocket teacher, post-trained on clean pairs of one kind.

This corresponds to the post-training of a released model. The pocket teacher's corpus has caption noise
(`caption_noise.py`); a specialist's is exact and narrow: one category in one light, or edits. A specialist follows its
prompts better than the base does. Its pictures differ less from seed to seed, unless it replays some of the base's
corpus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fewstep.backbones.embedded import POCKET
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
from fewstep.runtime.seeded import seeded_random
from pocket_making import vae
from pocket_making.corpus import (
    EDIT_MIX,
    LONGEST,
    corpus_sample,
    tokenizer,
)
from pocket_making.lora_training import LoraTrainingConfig, begin_lora, train_lora
from pocket_making.training_batches import Corpus

KINDS = ("portrait", "text", "edit", "editor")
# Shares of the kinds of edit: as in the base's corpus, or with the base's weak kinds more often and for longer.
EDIT_MIXES = {
    "edit": EDIT_MIX,
    "editor": {"text": 0.20, "identity": 0.16, "object": 0.16, "scene": 0.10, "perceptual": 0.08, "style": 0.30},
}

Example = tuple[str, list[np.ndarray]]


@dataclass(frozen=True)
class FinetuneConfig(LoraTrainingConfig):
    """Numbers of a specialist's training; all ours."""

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
    iterations: int | None = None,
) -> Path:
    """Trains the specialist of this kind for some minutes and writes its LoRA file into the folder `to`.

    Args:
        config: the default is FINETUNE_CONFIGS[kind].
        start: a LoRA to continue from: a file, or one of the embedded ones.
        iterations: train for so many, in the place of the minutes.

    Raises:
        AdapterError: `start` cannot be read, or fits another model.
    """
    config = config or FINETUNE_CONFIGS[kind]
    pipeline = load_pocket_teacher(base)
    adapters = begin_lora(pipeline, config, start)
    data = {kind: curated_corpus(pipeline, kind, config)}
    if config.replay:
        data[REPLAY] = curated_corpus(pipeline, REPLAY, config)
    log(f"{config.examples:,} curated examples of {' and of '.join(data)}")

    def drawn(rng: torch.Generator) -> Corpus:
        return data[REPLAY if config.replay and float(torch.rand((), generator=rng)) < config.replay else kind]

    return train_lora(pipeline, adapters, drawn, to, minutes, iterations, config, kind, POCKET, log)
