"""How the harder teacher is made, in stretches: render, fit the encoder, train transformer and decoder, export.

Every stage resumes, or is skipped if its result exists. A stretch on another machine goes on from the pipeline folder
that the last one left (`start`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fewstep.pocket.build import (
    FlowMatchEulerDiscreteScheduler,
    Pipeline,
    build_pocket_pipeline,
    load_pocket_teacher,
)
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import random_scene
from fewstep.pocket.harder.vocabulary import WORLD, vocabulary, words
from fewstep.pocket.world_words import refuse_other_world
from fewstep.runtime.seeded import seeded_random
from pocket_making.harder import corpus
from pocket_making.harder.letter_embeddings import set_letter_embeddings
from pocket_making.harder.probe_train import train_probe
from pocket_making.teacher_trainer import Log, TeacherTrainingConfig
from pocket_making.train import (
    Groups,
    export_pocket_teacher,
    prepare,
    train_and_save_decoder,
    train_teacher,
)
from pocket_making.training_batches import BatchConfig, encode_corpus

SHIFTS = {36: 1.5, 64: 2.0}  # ours: the schedule's shift at so many latent tokens; larger pictures need more noise
# ours: words are a minority of the corpus, and would be learnt last
HARDER_BATCH_CONFIG = BatchConfig(sign_frequency=2.0)
LETTERS_SHARE = 0.1  # ours: of the teacher's minutes
# ours: prompts, nearly all of signs, at times when a letter is still open. What the prompt spells is taken up after
# some 300 such steps, and was not in 8,000 others (docs/harder-world.md).
LETTERS_FIRST = BatchConfig(sign_frequency=40.0, letter_weight=6.0, letter_weight_below=0.98, times=(0.6, 1.0))
DECODER_SHARDS = 2  # of each layout
DECODER_SIGNS = 8_000  # ours, besides: letters are what it learns last (docs/harder-world.md)


def train_harder(
    out: Path,
    minutes_vae: float = 20.0,
    minutes_teacher: float = 110.0,
    minutes_probe: float = 80.0,
    shards: int = 40,
    samples: int = corpus.SHARD,
    plan: TeacherTrainingConfig = TeacherTrainingConfig(),
    workers: int = 2,
    log: Log = print,
    start: Path | None = None,
    minutes_letters: float | None = None,
) -> Path:
    """All stages up to `out/pipeline`, a stock pipeline folder, and `out/reader`.

    Args:
        shards: of so many samples, for text to image and for edits each. A thousand take 28 to 150 MB of disk.
        plan: give each stretch another `seed`, or it repeats the batches of the last one. Its `batch_config` is this
            world's own.
        minutes_letters: how many of the teacher's minutes are for letters, at first: a tenth unless given, and none
            where there is a `start`, which can spell.
        start: a pipeline of this world to go on from, with its encoder, decoder and transformer.

    Raises:
        ModelError: `out` holds a pipeline of another version of this world. RunError: it holds shards of one.
    """
    refuse_other_world(out / "base", vocabulary(), WORLD)
    for path in corpus.render_corpus(out / "corpus", shards, workers, samples):
        log(f"rendered {path.name}")
    encode_corpus(out / "corpus", prepare(out, log, start, untrained, lambda: squares(out / "corpus")))
    by_task = groups(shards)
    if minutes_letters is None:
        minutes_letters = 0.0 if start is not None else LETTERS_SHARE * minutes_teacher
    if minutes_letters > 0:
        letters = replace(plan, batch_config=LETTERS_FIRST, cooldown_share=0.0)
        train_teacher(out, minutes_letters, letters, workers, {"t2i": by_task["t2i"]}, log)
    train_teacher(out, minutes_teacher, replace(plan, batch_config=HARDER_BATCH_CONFIG), workers, by_task, log)
    torch.set_num_threads(workers)
    train_and_save_decoder(out, minutes_vae, lambda: pictures_by_size(out / "corpus"), log)
    export_pocket_teacher(out, out / "pipeline")
    if minutes_probe > 0 and not (out / "reader" / "accuracy.json").exists():
        log(f"reader {train_probe(load_pocket_teacher(out / 'pipeline').vae, out / 'reader', minutes_probe, log=log)}")
    return out / "pipeline"


def groups(shards: int) -> Groups:
    found: Groups = {"t2i": [], "edit": []}
    for layout in corpus.layouts(shards):
        found[layout.task].append((layout.name, layout.grid))
    return found


def untrained() -> Pipeline:
    """With random weights; its schedule shifts with the picture's size, as the large teachers' do."""
    (few, low), (many, high) = SHIFTS.items()
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=few,
        max_image_seq_len=many,
        base_shift=math.log(low),
        max_shift=math.log(high),
    )
    pipeline = build_pocket_pipeline(0, words(), scheduler)
    set_letter_embeddings(pipeline.text_encoder)
    return pipeline


def squares(folder: Path) -> np.ndarray:
    """Pictures of 96 x 96 px: of text to image, and what edits begin with and end as."""
    shards = [np.load(folder / f"{name}-96x96-000.npz")["images"] for name in ("t2i", "edit1")]
    return np.concatenate([shard.reshape(-1, *shard.shape[2:]) for shard in shards])


def pictures_by_size(folder: Path, signs: int = DECODER_SIGNS) -> list[np.ndarray]:
    """One array for each size, of the first shards of its layouts and of so many signs in all."""
    by_size: dict[tuple[int, ...], list[np.ndarray]] = {}
    for index in range(signs):
        picture = np.asarray(render(random_scene("text", seeded_random("decoder sign", index), "train")))
        by_size.setdefault(picture.shape, []).append(picture[None])
    for layout in corpus.layouts(DECODER_SHARDS):
        for path in sorted(folder.glob(f"{layout.name}-*.npz"))[:DECODER_SHARDS]:
            images = np.load(path)["images"]
            by_size.setdefault(images.shape[2:], []).append(images.reshape(-1, *images.shape[2:]))
    return [np.concatenate(some) for some in by_size.values()]
