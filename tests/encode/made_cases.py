"""Made-up conditionings and cases, with shapes like the real ones."""

from pathlib import Path

import torch
from PIL import Image

from fewstep.backbones.conditioning import (
    Conditioning,
)
from fewstep.backbones.layout import Layout
from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import (
    Ratio,
)
from fewstep.data.streams import by_source
from fewstep.encode.encode import store_key
from fewstep.encode.store import ConditioningStore
from fewstep.runtime.task import TASKS, Task
from tests.data.plain_order import unchanging

CHANNELS, LATENT = 6, 4
SIZE = (64, 64)


def t2i_conditioning(seed: int, length: int = 5, padding: int = 0) -> Conditioning:
    """A t2i conditioning whose numbers follow from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    text_BLC = torch.randn(1, length + padding, CHANNELS, generator=generator)
    mask_BL = torch.arange(length + padding)[None] < length
    return Conditioning(text_BLC, mask_BL, Layout("t2i", (4, 4)))


def edit_conditioning(seed: int, references_BRD: torch.Tensor, length: int = 5) -> Conditioning:
    """An edit's conditioning about one picture of 2 x R / 2 tokens."""
    layout = Layout("edit", (4, 4), ((2, references_BRD.shape[1] // 2),), (3,))
    plain = t2i_conditioning(seed, length)
    return Conditioning(plain.text_BLC, plain.mask_BL, layout, references_BRD)


def latents(seed: int, tokens: int = 8) -> torch.Tensor:
    return torch.randn(1, tokens, LATENT, generator=torch.Generator().manual_seed(seed))


def t2i_cases(count: int, category: str = "a") -> list[Case]:
    return [Case(f"{category}{n}", "t2i", f"{category} prompt {n}", category) for n in range(count)]


def edit_cases(folder: Path, count: int, wide: int = 0) -> list[Case]:
    """Edits with a picture of their own each; the first `wide` ones have pictures twice as wide."""
    cases = []
    for n in range(count):
        path = folder / f"{n}.png"
        Image.new("RGB", (128 if n < wide else 64, 64), (n, 0, 0)).save(path)
        cases.append(Case(f"e{n}", "edit", f"edit {n}", "e", (path,)))
    return cases


def fill_store(store: ConditioningStore, cases: list[Case], negatives: dict[Task, tuple[str, ...]]) -> None:
    """Adds something to the store for every case and negative prompt; texts of 3 to 7 positions."""
    for n, case in enumerate(cases):
        for m, prompt in enumerate((*case.prompts, *negatives.get(case.task, ()))):
            seed, length = 1000 * m + n, 3 + (n + m) % 5
            if case.task == "t2i":
                cond = t2i_conditioning(seed, length)
            else:
                with Image.open(case.references[0]) as picture:
                    cond = edit_conditioning(seed, latents(n, 8 if picture.width == 64 else 16), length)
            store.add(store_key(case, prompt, store, SIZE), cond)
    store.flush()


def composition_of(cases: list[Case], t2i: int, edit: int) -> Composition:
    """All the cases of each task in one stream, at one ratio."""
    streams = {task: by_source(task, [[case for case in cases if case.task == task]], [1]) for task in TASKS}
    return unchanging(Ratio(t2i, edit), streams)
