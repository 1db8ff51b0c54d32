"""Specialised teachers of the harder world, made so that they can break.

Each is a LoRA over the harder teacher, trained for long on a few hundred clean pairs of one kind: signs, portraits or
prompts of all categories, in one light, or edits. It is meant to be better than the base on its subject, and to forget
much of the rest; docs/harder-world.md says how far that is so. `times` limits the training to a part of the time range,
for a specialist that is meant for early or for late steps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from fewstep.pocket.build import Pipeline, load_pocket_teacher
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.captions import END, caption, usual
from fewstep.pocket.harder.edits import edit_images
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import SIZES, random_scene
from fewstep.pocket.harder.vocabulary import WORLD, tokenizer
from fewstep.runtime.seeded import seeded_random
from pocket_making import vae
from pocket_making.harder.corpus import LONGEST, Layout, drawn_edit
from pocket_making.lora_training import LoraTrainingConfig, begin_lora, train_lora
from pocket_making.training_batches import Corpus

HARDER_KINDS = ("portrait", "text", "t2i", "edit")  # t2i: prompts of all categories
BRITTLE = LoraTrainingConfig(examples=400, batch=32)  # ours: few enough to be learnt by heart
LIGHT = "left"

Pair = tuple[str, list[np.ndarray]]


def curated_pair(kind: str, layout: Layout, seed: int, index: int) -> Pair:
    """One clean pair: (caption, [picture]) of a category in one light, or (instruction, [source, target])."""
    rng = seeded_random("curated, harder", kind, layout.name, seed, index)
    if kind == "edit":
        _, edit = drawn_edit(layout, rng, "train")
        images = edit_images(edit, ("curated", layout.name, seed, index))
        return rng.choice(edit.wordings) + END, [np.asarray(image) for image in images]
    category = rng.choice([*CATEGORIES]) if kind == "t2i" else kind
    it = random_scene(category, rng, "train", layout.size).having(light=LIGHT)
    return caption(it, rng, usual(it)), [np.asarray(render(it))]


def curated_layouts(kind: str, examples: int) -> dict[Layout, int]:
    """How many pairs of each layout, by how often a size is drawn; one at least."""
    total = sum(SIZES.values())
    references = int(kind == "edit")
    return {Layout(references, size): max(1, round(examples * weight / total)) for size, weight in SIZES.items()}


def curated_corpora(pipeline: Pipeline, kind: str, config: LoraTrainingConfig) -> list[Corpus]:
    """All pairs of this kind, encoded, one corpus for each layout."""
    return [
        curated_corpus_of(pipeline, kind, layout, config.seed, count)
        for layout, count in curated_layouts(kind, config.examples).items()
    ]


def curated_corpus_of(pipeline: Pipeline, kind: str, layout: Layout, seed: int, count: int) -> Corpus:
    ids, shown = np.full((count, LONGEST), -1, np.int16), []
    for row in range(count):
        text, images = curated_pair(kind, layout, seed, row)
        tokens = tokenizer().encode(text).ids
        ids[row, : len(tokens)] = tokens
        shown.append(np.stack(images))
    stacked = np.stack(shown)
    flat = vae.encode_closed_form(pipeline.vae, stacked.reshape(-1, *stacked.shape[2:]))
    return Corpus(flat.unflatten(0, stacked.shape[:2]).half(), torch.from_numpy(ids), layout.grid)


def by_size(corpora: Sequence[Corpus]) -> Callable[[torch.Generator], Corpus]:
    """Each corpus as often as it has pairs."""
    counts = torch.tensor([float(len(corpus.ids)) for corpus in corpora])
    return lambda rng: corpora[int(torch.multinomial(counts, 1, generator=rng))]


def specialise_harder(
    kind: str,
    base: Path,
    to: Path,
    minutes: float,
    iterations: int | None = None,
    config: LoraTrainingConfig = BRITTLE,
    start: str | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Trains the specialist of this kind over the teacher `base` and writes its LoRA file into the folder `to`.

    Args:
        iterations: train for so many, in the place of the minutes.
        start: the file of a LoRA to continue from.

    Raises:
        AdapterError: `start` cannot be read, or fits another model.
    """
    pipeline = load_pocket_teacher(base)
    adapters = begin_lora(pipeline, config, start)
    corpora = curated_corpora(pipeline, kind, config)
    log(f"{sum(len(corpus.ids) for corpus in corpora):,} curated pairs of {kind}, in {len(corpora)} sizes")
    return train_lora(pipeline, adapters, by_size(corpora), to, minutes, iterations, config, kind, WORLD, log)
