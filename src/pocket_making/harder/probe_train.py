"""How the harder world's reader is made: on real renders, slightly corrupted, half of them through the autoencoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.pocket.build import Vae
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.edits import STYLES, stylise
from fewstep.pocket.harder.probe import (
    Reader,
    letter_places,
    read,
    reader_questions,
    right_answers,
    squared,
)
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import Split, random_scene
from fewstep.runtime import durable
from fewstep.runtime.seeded import seeded_random
from pocket_making import vae
from pocket_making.probe_train import UNASKED, fit, minutes_spent

STYLED = 0.15  # share of pictures with a style
# In turn: signs are half at first, since letters are the hard part; then faces and fruit are, as mouths and stalks are
# as small as letters.
KINDS = ((*CATEGORIES, "text", "text"), (*CATEGORIES, "portrait", "still-life"))
SHARES = (0.65, 0.35)  # ours: of the minutes
Wanted = list[dict[str, str]]


def renders(
    count: int, split: Split, seed: int, kinds: tuple[str, ...] = KINDS[0]
) -> tuple[list[np.ndarray], Wanted, Tensor]:
    """Pictures of all sizes, the right answers to what is asked of each, and where its letters stand, (count, slots,
    places): nowhere in a styled one, which is asked for its style alone."""
    images, wanted, places = [], [], []
    for index in range(count):
        rng = seeded_random("reader", split, seed, index)
        it = random_scene(rng.choice(kinds), rng, split)
        style = rng.choice(list(STYLES)) if rng.random() < STYLED else None
        picture = render(it)
        images.append(np.asarray(stylise(picture, style) if style else picture))
        wanted.append(right_answers(it, style))
        where = letter_places(it)
        places.append(where if style is None else np.zeros_like(where))
    return images, wanted, torch.from_numpy(np.stack(places)).half()


def looking(places: Tensor, reader: Reader, x: Tensor, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Answers, and how far each slot looks from where its letter stands: their cross entropy. With it slots
    look at the right places after 250 steps."""
    answers, looks = reader.answers_and_looks(x)
    return answers, -(places[rows] * looks).sum() / len(rows)


def rebuilt(model: Vae, images: list[np.ndarray], noise: float) -> list[np.ndarray]:
    """What the autoencoder makes of them, with up to so much noise on their latents."""
    found: list[np.ndarray] = list(images)
    for shape in {image.shape for image in images}:
        rows = [k for k, image in enumerate(images) if image.shape == shape]
        z = vae.encode_closed_form(model, np.stack([images[k] for k in rows]))
        generator = torch.Generator().manual_seed(len(rows))
        z += noise * torch.rand(len(z), 1, 1, generator=generator) * torch.randn(z.shape, generator=generator)
        grid = (shape[0] // vae.TILE, shape[1] // vae.TILE)
        for k, picture in zip(rows, vae.decode_tokens(model, z, chunk=100, grid=grid), strict=True):
            found[k] = picture
    return found


def as_indices(wanted: Wanted) -> Tensor:
    """(n, questions) int64; UNASKED where a question does not apply."""
    asked = reader_questions()
    rows = [[asked[n].index(each[n]) if n in each else UNASKED for n in asked] for each in wanted]
    return torch.tensor(rows)


def accuracy(reader: Reader, images: list[np.ndarray], wanted: Wanted) -> dict[str, float]:
    """Share of right answers to each question, and of whole words."""
    right: dict[str, list[bool]] = {}
    for found, each in zip(read(reader, images), wanted, strict=True):
        for name, value in each.items():
            right.setdefault(name.split(".")[0] if name.startswith("letter") else name, []).append(found[name] == value)
        if each.get("category") == "text":
            letters = [name for name in each if name.startswith("letter")]
            right.setdefault("word", []).append(all(found[name] == each[name] for name in letters))
    return {name: round(float(np.mean(some)), 4) for name, some in sorted(right.items())}


def train_probe(
    model: Vae,
    to: Path,
    minutes: float,
    count: int = 40_000,
    batch: int = 64,
    log: Callable[[str], None] = print,
    held_out: int = 1200,
) -> dict[str, dict[str, float]]:
    """Trains on train scenes, measures on held-out ones, plain and through the autoencoder, and writes
    `reader.safetensors` and `accuracy.json`. Returns both accuracies. After its first part there is
    `after-part-1.safetensors`, from which the same call goes on."""
    torch.manual_seed(0)
    to.mkdir(parents=True, exist_ok=True)
    reader, half_way = Reader(), to / "after-part-1.safetensors"
    if half_way.exists():
        reader.load_state_dict({name: value.float() for name, value in load_file(half_way).items()})
    else:
        learn_part(reader, model, 0, minutes * SHARES[0], count, batch, log)
        write_reader(reader, half_way)
    learn_part(reader, model, 1, minutes * SHARES[1], count, batch, log)
    images, wanted, _ = renders(held_out, "heldout", seed=1)
    found = {"renders": accuracy(reader, images, wanted)}
    found["vae"] = accuracy(reader, rebuilt(model, images, noise=0.0), wanted)
    write_reader(reader, to / "reader.safetensors")
    durable.write_atomically(to / "accuracy.json", json.dumps({"n": len(images), **found}, indent=1) + "\n")
    return found


def write_reader(reader: Reader, path: Path) -> None:
    """In bf16, to which `fit` has rounded it."""
    weights = {name: value.to(torch.bfloat16).contiguous() for name, value in reader.state_dict().items()}

    def write(torn: Path) -> None:
        save_file(weights, torn)
        durable.as_umask_says(torn)

    durable.replace_atomically(path, write)


def learn_part(
    reader: Reader, model: Vae, part: int, minutes: float, count: int, batch: int, log: Callable[[str], None]
) -> None:
    """One part of the training, on pictures of its own; half of them a second time, through the autoencoder."""
    images, wanted, places = renders(count, "train", part, KINDS[part])
    log(f"rendered {count:,} pictures")
    again = rebuilt(model, images[: count // 2], noise=0.3)
    labels = as_indices([*wanted, *wanted[: count // 2]])
    pictures, places = torch.from_numpy(squared([*images, *again])), torch.cat([places, places[: count // 2]])
    fit(reader, pictures, labels, minutes_spent(minutes), batch, log, partial(looking, places))
