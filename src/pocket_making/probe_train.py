"""How the probe was made: trained on real renders, slightly corrupted, half of them through the VAE with noise on the
latents."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.pocket.build import Vae
from fewstep.pocket.edits import STYLES as EDIT_STYLES
from fewstep.pocket.edits import stylise
from fewstep.pocket.probe import ALPHABET, BLANK, SLOTS, Probe, Reader, network_input, probe_questions
from fewstep.pocket.render import render
from fewstep.pocket.world import CATEGORIES, Scene, Split, attributes, category, letters, random_scene
from fewstep.runtime.seeded import seeded_random
from pocket_making import vae
from pocket_making.precision import quick_autocast

UNASKED = -100  # cross entropy ignores this label
STYLED = 0.2  # share of pictures with a style, for which only the style is asked


def right_answers(scene: Scene, style: str | None) -> list[int]:
    """The index of the right answer to every question; UNASKED if a question does not apply."""
    wanted = dict.fromkeys(probe_questions(), UNASKED)
    wanted["style"] = probe_questions()["style"].index(style or "plain")
    if style is None:
        kind = category(scene)
        wanted["category"] = CATEGORIES.index(kind)
        for name, value in attributes(scene).items():
            wanted[f"{kind}.{name}"] = probe_questions()[f"{kind}.{name}"].index(value)
        for slot in range(SLOTS):
            glyph = (letters(scene) or "").ljust(SLOTS, BLANK)[slot]
            wanted[f"letter.{slot}"] = ALPHABET.index(glyph)
    return list(wanted.values())


def renders(count: int, split: Split, seed: int, styled: float = STYLED) -> tuple[np.ndarray, Tensor]:
    """(images uint8, answers int64); signs are half of them."""
    images, wanted = [], []
    for index in range(count):
        rng = seeded_random("probe", split, seed, index)
        scene = random_scene(rng.choice((*CATEGORIES, "text")), rng, split)
        style = rng.choice(EDIT_STYLES) if rng.random() < styled else None
        picture = render(scene)
        images.append(np.asarray(stylise(picture, style) if style else picture))
        wanted.append(right_answers(scene, style))
    return np.stack(images), torch.tensor(wanted)


def reconstructed(model: Vae, images: np.ndarray, noise: float) -> np.ndarray:
    z = vae.encode_closed_form(model, images)
    generator = torch.Generator().manual_seed(len(images))
    amount = noise * torch.rand(len(z), 1, 1, generator=generator)
    return vae.decode_tokens(model, z + amount * torch.randn(z.shape, generator=generator))


def augment(x: Tensor, rng: torch.Generator) -> Tensor:
    """Mild noise, blur, brightness, and a shift of at most one pixel."""
    size = (len(x), 1, 1, 1)
    blurred = nn.functional.avg_pool2d(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = x.lerp(blurred, torch.rand(size, generator=rng))
    x = x * (1 + 0.1 * torch.randn(size, generator=rng)) + 0.05 * torch.randn(size, generator=rng)
    x = x + 0.12 * torch.rand(size, generator=rng) * torch.randn(x.shape, generator=rng)
    shift = torch.randint(-1, 2, (2,), generator=rng).tolist()
    return torch.roll(x, shift, dims=(2, 3))


def accuracy(reader: Reader, images: np.ndarray, wanted: Tensor) -> dict[str, float]:
    """Share of right answers to each question, and of whole words on signs."""
    with torch.no_grad():
        parts = [reader(x) for x in network_input(images).split(256)]
    right = torch.stack([torch.cat([p[name] for p in parts]).argmax(1) for name in probe_questions()], dim=1) == wanted
    asked = wanted != UNASKED
    found = {
        n: right[:, i][asked[:, i]].double().mean().item() for i, n in enumerate(probe_questions()) if asked[:, i].any()
    }
    slots = [i for i, name in enumerate(probe_questions()) if name.startswith("letter")]
    on_sign = wanted[:, list(probe_questions()).index("text.shape")] != UNASKED
    found["word"] = right[on_sign][:, slots].all(1).double().mean().item()
    return {name: round(value, 4) for name, value in found.items()}


def train_probe(
    model: Vae,
    minutes: float = 6.0,
    count: int = 16000,
    batch: int = 64,
    log: Callable[[str], None] = print,
    start: Reader | None = None,
    seed: int = 0,
) -> Probe:
    """Trains on train scenes and measures on held-out ones (1200 plain renders, and their reconstructions).

    The weights of the shipped probe are 0.3 times those of a first training plus 0.7 times those of its continuation on
    fresh renders (`start`, `seed`). Each of the two misread a few pictures in a thousand (negatives; colours of trees);
    their weighted mean misread none of 2400.
    """
    torch.manual_seed(0)
    images, wanted = renders(count, "train", seed=seed)
    images = np.concatenate([images, reconstructed(model, images[: count // 2], noise=0.3)])
    wanted = torch.cat([wanted, wanted[: count // 2]])
    reader = start or Reader()
    fit(reader, torch.from_numpy(images), wanted, minutes_spent(minutes), batch, log)
    images, wanted = renders(1200, "heldout", seed=1, styled=0.2)
    clean, rebuilt = images, reconstructed(model, images, noise=0.0)
    return Probe(
        reader, {"n": len(images), "renders": accuracy(reader, clean, wanted), "vae": accuracy(reader, rebuilt, wanted)}
    )


Clock = Callable[[int], float]  # after so many steps: the share that is spent, of time or of whatever is counted


def minutes_spent(minutes: float) -> Clock:
    """A clock that begins now."""
    started = time.monotonic()
    return lambda step: (time.monotonic() - started) / 60 / minutes


Answering = Callable[[Any, Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]


def answers_alone(reader: nn.Module, x: Tensor, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    return reader(x), torch.zeros(())


def fit(
    reader: nn.Module,
    x_all: Tensor,
    wanted: Tensor,
    spent: Clock,
    batch: int,
    log: Callable[[str], None],
    answering: Answering = answers_alone,
) -> None:
    """Trains a reader on pictures (n, H, W, 3) uint8 and their answers until all is spent, and rounds it to bf16.

    Args:
        answering: the reader, a batch and its rows in `x_all` -> logits by question, in the order of the columns of
            `wanted` (UNASKED is no answer), and a further loss of the batch.
    """
    # ours: two thirds of the time on a CPU
    reader.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rng = torch.Generator().manual_seed(0)
    reader.train()
    optimiser = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=1e-3)
    told, step = 0.0, 0
    while (share := spent(step)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100, (1 - share) / 0.5)
        rows = torch.randint(len(x_all), (batch,), generator=rng)
        with quick_autocast():
            told_by, further = answering(reader, augment(network_input(x_all[rows]), rng), rows)
        losses = [
            nn.functional.cross_entropy(logits.float(), wanted[rows, i], ignore_index=UNASKED, reduction="sum") / batch
            for i, logits in enumerate(told_by.values())
        ]
        loss = torch.stack(losses).sum() + further
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        if time.monotonic() - told > 20:
            told = time.monotonic()
            log(f"probe {share:.0%} step {step} loss {loss.item():.3f}")
    reader.eval()
    for tensor in reader.parameters():
        tensor.data = tensor.data.to(torch.bfloat16).float()
