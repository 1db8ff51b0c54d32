"""The training corpus of the pocket teacher: rendered cases in shards, then their latents.

A shard is a pure function of (task, number). It holds token ids of the captions, not embeddings. The frozen encoder
gives every token nearly the same embedding at any position, so a table of embeddings is enough (`embedding_table`).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from fewstep.pocket.captions import END, caption
from fewstep.pocket.edits import edit_images
from fewstep.pocket.render import render
from fewstep.pocket.vocabulary import byte_pair_tokenizer, merges, vocabulary
from fewstep.pocket.world import (
    Split,
    random_scene,
)
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.signals import end_without_saving
from pocket_making.caption_noise import noisy_description, noisy_edit

SHARD = 4000
T2I_MIX = {"text": 0.48, "portrait": 0.30, "landscape": 0.22}  # ours: letters and faces are learnt most slowly
EDIT_MIX = {"text": 0.32, "identity": 0.22, "object": 0.18, "scene": 0.14, "perceptual": 0.07, "style": 0.07}
LONGEST = 16  # most tokens of a caption


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return byte_pair_tokenizer(vocabulary(), merges())


def corpus_sample(task: str, seed: int, index: int, split: Split = "train") -> tuple[str, str, list[np.ndarray]]:
    """(category, caption, pictures): a T2I case's target, or an edit's source and target, with caption noise."""
    from fewstep.pocket.cases import propose

    mix = T2I_MIX if task == "t2i" else EDIT_MIX
    rng = seeded_random("corpus", task, split, seed, index)
    kind = rng.choices(list(mix), list(mix.values()))[0]
    if task == "t2i":
        scene = random_scene(kind, rng, split)
        noisy_scene, omitted = noisy_description(scene, rng)
        return kind, caption(noisy_scene, rng, omitted), [np.asarray(render(scene))]
    edit, instruction = propose(kind, seed + 1_000_000, index, split)
    assert instruction.endswith(END)
    name = ("corpus", seed, index)
    source, _ = edit_images(edit, name)
    shown = noisy_edit(edit, kind, rng)
    target = source if shown is None else edit_images(shown, name)[1]
    return kind, instruction, [np.asarray(source), np.asarray(target)]


def render_shard(job: tuple[str, int, int, Path]) -> Path:
    """Renders shard `number`: images (n, 1 or 2, 64, 64, 3) uint8, token ids (n, LONGEST) padded with -1."""
    task, number, size, folder = job
    path = folder / f"{task}-{number:03d}.npz"
    if path.exists():
        return path
    images, ids = [], np.full((size, LONGEST), -1, np.int16)
    for row in range(size):
        _, text, shown = corpus_sample(task, number, row)
        tokens = tokenizer().encode(text).ids
        ids[row, : len(tokens)] = tokens
        images.append(np.stack(shown))
    write_shard(path, images=np.stack(images), ids=ids)
    return path


def write_shard(path: Path, **arrays: np.ndarray) -> None:
    """Whole or not at all."""
    torn = path.with_suffix(".part")
    with torn.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    torn.rename(path)


def render_corpus(folder: Path, t2i_shards: int, edit_shards: int, workers: int, size: int = SHARD) -> Iterator[Path]:
    """Renders what is missing, the two tasks in turn; yields the shards as they are ready."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [("t2i", i, size, folder) for i in range(t2i_shards)] + [
        ("edit", i, size, folder) for i in range(edit_shards)
    ]
    jobs.sort(key=lambda job: (job[1], job[0]))
    with multiprocessing.get_context("fork").Pool(workers, end_without_saving) as pool:
        yield from pool.imap(render_shard, jobs)
