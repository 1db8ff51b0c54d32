"""How good a pocket teacher is: sample held-out cases in batches, as its pipeline would, and let the probe read.

The pipeline shares one set of references among a batch; here each sample has its own, and cases of one layout (task,
caption length) go together, so no prompt is padded and every picture is what the pipeline makes of that case alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewstep.pocket import vae
from fewstep.pocket.build import CHANNELS, Pipeline, PrefixCache
from fewstep.pocket.cases import PocketCase
from fewstep.pocket.measure import pixels_of
from fewstep.pocket.world import draw_by_lot

GRID = (1, 4, 4)  # latent tokens of 64 px
TOKENS = 16


class Branch:
    """Velocity under one text (conditional or empty), its prefix cached after the first call."""

    def __init__(self, pipeline: Pipeline, text: Tensor, slots: Tensor, references: Tensor | None):
        self.model, self.text, self.references = pipeline.transformer, text, references
        self.mask = torch.cat([slots, slots.new_ones(len(slots), TOKENS // 4)], dim=1)
        self.shapes = [[GRID] * (1 if references is None else 2)] * len(text)
        self.cache, self.mode = PrefixCache(len(self.model.transformer_blocks)), "extract"

    def __call__(self, z_BND: Tensor, t: float) -> Tensor:
        joint = z_BND if self.references is None else torch.cat([self.references, z_BND], dim=1)
        v = self.model(
            hidden_states=joint,
            encoder_hidden_states=self.text,
            timestep=torch.full((len(z_BND),), t),
            img_shapes=self.shapes,
            img_mask=self.mask,
            kv_cache=self.cache,
            kv_cache_mode=self.mode,
        ).sample
        self.mode = "cached"
        return v[:, -TOKENS:]


def encoded(pipeline: Pipeline, case: PocketCase, prompt: str) -> tuple[Tensor, Tensor]:
    """(T, C) embeddings and (T,) image slots, by the pipeline's own encoder."""
    references = [image.convert("RGBA") for image in case.references] or None
    text, _, slots = pipeline.encode_prompt(prompt=prompt, image=references)
    return text[0], slots[0]


def noise_for(case: PocketCase, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(draw_by_lot("sampling", seed, case.id).getrandbits(62))
    return torch.randn(TOKENS, CHANNELS, generator=generator)


@torch.no_grad()
def generate(
    pipeline: Pipeline,
    cases: Sequence[PocketCase],
    steps: int = 40,
    guidance: float = 1.0,
    seed: int = 0,
    batch: int = 64,
) -> list[Image.Image]:
    """Euler on t = 1, 1 - 1/steps, ...; v_u + guidance (v_c - v_u)."""
    texts = [encoded(pipeline, case, case.prompt) for case in cases]
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (text, slots) in enumerate(texts):
        groups[len(text), int(slots.sum())].append(index)
    latents = torch.empty(len(cases), TOKENS, CHANNELS)
    for members in groups.values():
        for start in range(0, len(members), batch):
            some = members[start : start + batch]
            latents[some] = denoised(
                pipeline, [cases[i] for i in some], [texts[i] for i in some], steps, guidance, seed
            )
    return [Image.fromarray(picture) for picture in vae.decode(pipeline.vae, latents)]


def denoised(
    pipeline: Pipeline,
    cases: list[PocketCase],
    texts: list[tuple[Tensor, Tensor]],
    steps: int,
    guidance: float,
    seed: int,
) -> Tensor:
    references = None
    if cases[0].references:
        references = vae.encode(pipeline.vae, pixels_of([case.references[0] for case in cases]))
    slots = torch.stack([slots for _, slots in texts])
    told = Branch(pipeline, torch.stack([text for text, _ in texts]), slots, references)
    untold = None
    if guidance != 1.0:
        empty = [encoded(pipeline, case, "") for case in cases]
        untold = Branch(pipeline, torch.stack([e for e, _ in empty]), torch.stack([s for _, s in empty]), references)
    z = torch.stack([noise_for(case, seed) for case in cases])
    for step in range(steps):
        t = 1 - step / steps
        v = told(z, t)
        if untold is not None:
            u = untold(z, t)
            v = u + guidance * (v - u)
        z = z - v / steps
    return z


def summary(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means of a list of probe records, over those to which each figure applies."""
    found: dict[str, float] = {"n": len(records)}
    for name in ("attributes", "letters_exact", "changed", "preserved_psnr", "target_psnr", "flat_noise"):
        values = [record[name] for record in records if record[name] is not None]
        if values:
            found[name] = round(float(np.mean(values)), 4)
    return found


def by_attribute(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Share right of each attribute."""
    right: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        for name, value in record["right"].items():
            right[name].append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in right.items()}
