"""The training corpus of the harder teacher: shards of one layout each.

A layout is a task, a size and a number of references. A shard is a pure function of (layout, number) and holds pictures
and the token ids of captions, as `pocket_making/corpus.py` does.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fewstep.pocket.harder.captions import END, caption, drawn_names
from fewstep.pocket.harder.edits import PROPOSE, Edit, edit_images, reference_edit
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import SIZES, Scene, Size, Split, random_scene
from fewstep.pocket.harder.sign import letter_corners
from fewstep.pocket.harder.vocabulary import tokenizer, words
from fewstep.runtime.errors import RunError
from fewstep.runtime.seeded import seeded_random
from fewstep.runtime.signals import end_without_saving
from pocket_making.corpus import write_shard
from pocket_making.harder.caption_noise import careless, misread

SHARD = 1000
LONGEST = 32  # most tokens of a caption
TILE = 16  # px
# ours: signs are a minority, so that words stay the hard part
T2I_MIX = {"text": 0.22, "portrait": 0.20, "landscape": 0.24, "still-life": 0.34}
EDIT_MIX = {"text": 0.18, "identity": 0.17, "object": 0.20, "scene": 0.17, "perceptual": 0.14, "style": 0.14}
LONG_SHARE = 0.2  # of captions that have asides


@dataclass(frozen=True)
class Layout:
    """references: 0 for text to image. One reference is an edit's source; more lend something."""

    references: int
    size: Size

    @property
    def task(self) -> str:
        return "edit" if self.references else "t2i"

    @property
    def name(self) -> str:
        return f"{self.task}{self.references or ''}-{self.size[0]}x{self.size[1]}"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of latent tokens."""
        return self.size[1] // TILE, self.size[0] // TILE


def layouts(shards: int) -> dict[Layout, int]:
    """How many shards of each layout: `shards` of text to image and as many of edits, shared out by how often a size is
    drawn. Of the edits at 96 x 96, every fourth takes from a second picture and every eighth from two."""
    total, found = sum(SIZES.values()), {}
    for size, weight in SIZES.items():
        found[Layout(0, size)] = max(1, round(shards * weight / total))
        found[Layout(1, size)] = max(1, round(shards * weight / total * (0.4 if size == (96, 96) else 1)))
    of_square = shards * SIZES[96, 96] / total
    found[Layout(2, (96, 96))] = max(1, round(of_square * 0.35))
    found[Layout(3, (96, 96))] = max(1, round(of_square * 0.25))
    return found


@dataclass(frozen=True)
class Sample:
    """What one row of a shard is drawn from. `edit` is the one asked for, `done` the one that its target shows."""

    text: str
    target: Scene
    edit: Edit | None = None
    done: Edit | None = None


def drawn_sample(layout: Layout, seed: int, index: int, split: Split = "train") -> Sample:
    """Caption or instruction and scene, with the corpus's errors; nothing is rendered."""
    rng = seeded_random("harder", layout.name, split, seed, index)
    if not layout.references:
        it = random_scene(rng.choices(list(T2I_MIX), list(T2I_MIX.values()))[0], rng, split, layout.size)
        asides = rng.randint(1, 5) if rng.random() < LONG_SHARE else 0
        return Sample(caption(misread(it, rng), rng, drawn_names(it, rng), asides), it)
    kind, edit = drawn_edit(layout, rng, split)
    instruction = rng.choice(edit.wordings) + END
    done = careless(edit, kind, rng)
    return Sample(instruction, edit.source if done is None else done.target, edit, done)


def corpus_sample(layout: Layout, seed: int, index: int, split: Split = "train") -> tuple[str, list[np.ndarray]]:
    """(caption or instruction, pictures with the target last)."""
    sample = drawn_sample(layout, seed, index, split)
    if sample.edit is None:
        return sample.text, [np.asarray(render(sample.target))]
    name = (layout.name, seed, index)
    pictures = edit_images(sample.edit, name)
    if sample.done is not sample.edit:
        pictures[-1] = pictures[0] if sample.done is None else edit_images(sample.done, name)[-1]
    return sample.text, [np.asarray(picture) for picture in pictures]


def letter_tokens(it: Scene) -> np.ndarray:
    """(N,) bool: which latent tokens of its picture hold letters of a sign."""
    wide, high = it.size
    held = np.zeros((high // TILE, wide // TILE), bool)
    for left, top in letter_corners(it) if it.word else ():
        held[top // TILE, left // TILE] = True
    return held.ravel()


def letters_of_shard(layout: Layout, number: int, count: int) -> np.ndarray:
    """(count, N) bool: `letter_tokens` of each target of a shard."""
    return np.stack([letter_tokens(drawn_sample(layout, number, row).target) for row in range(count)])


def drawn_edit(layout: Layout, rng, split: Split) -> tuple[str, Edit]:  # type: ignore[no-untyped-def]
    """(kind, edit); what takes from another picture has kind "object"."""
    while True:
        kind = rng.choices(list(EDIT_MIX), list(EDIT_MIX.values()))[0]
        category = {"text": "text", "identity": "portrait"}.get(kind) or rng.choice(list(T2I_MIX))
        it = random_scene(category, rng, split, layout.size)
        taking = layout.references > 1
        edit = reference_edit(it, rng, layout.references - 1) if taking else PROPOSE[kind](it, rng)
        if edit is not None:
            return ("object" if taking else kind), edit


def render_shard(job: tuple[Layout, int, int, Path]) -> Path:
    """Shard `number`: images (n, pictures, H, W, 3) uint8, ids (n, LONGEST) padded with -1, letters (n, N) bool: the
    target's latent tokens that hold letters, and words: which tokens the ids are of. A shard that is there is kept.

    Raises:
        RunError: it is there, of another version of this world.
    """
    layout, number, count, folder = job
    path = folder / f"{layout.name}-{number:03d}.npz"
    if path.exists():
        refuse_other_words(path)
        return path
    images, ids = [], np.full((count, LONGEST), -1, np.int16)
    for row in range(count):
        text, shown = corpus_sample(layout, number, row)
        tokens = tokenizer().encode(text).ids
        ids[row, : len(tokens)] = tokens
        images.append(np.stack(shown))
    write_shard(
        path, images=np.stack(images), ids=ids, letters=letters_of_shard(layout, number, count), words=words_mark()
    )
    return path


@lru_cache(maxsize=1)
def words_mark() -> np.ndarray:
    """Bytes that change with the world's tokens."""
    told = json.dumps([words().ids, words().merges]).encode()
    return np.frombuffer(hashlib.blake2b(told, digest_size=8).digest(), np.uint8)


def refuse_other_words(path: Path) -> None:
    """
    Raises:
        RunError: the shard's captions are in tokens of another version of this world.
    """
    with np.load(path) as shard:
        if "words" not in shard or not np.array_equal(shard["words"], words_mark()):
            raise RunError(f"{path}: its captions are in other tokens than the world has now; remove {path.parent}")


def render_corpus(folder: Path, shards: int, workers: int, count: int = SHARD) -> Iterator[Path]:
    """Renders what is missing, layouts in turn; yields the shards as they are ready."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(layout, number, count, folder) for layout, many in layouts(shards).items() for number in range(many)]
    jobs.sort(key=lambda job: (job[1], job[0].name))
    with multiprocessing.get_context("fork").Pool(workers, end_without_saving) as pool:
        yield from pool.imap(render_shard, jobs)
