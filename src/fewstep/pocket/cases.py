"""Cases of the pocket world: everything needed to ask for a picture and to examine the answer.

`t2i_case` and `edit_case` are pure functions of (seed, index, split).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from fewstep.pocket.captions import END, caption
from fewstep.pocket.edits import EDITS, PROPOSE, Edit, edit_images, region
from fewstep.pocket.render import SIZE, render
from fewstep.pocket.world import CATEGORIES, Scene, Split, attributes, category, letters, random_scene, split_of
from fewstep.runtime.seeded import seeded_random


@dataclass(frozen=True, eq=False)
class PocketCase:
    """One T2I prompt or one edit, with its answer.

    `attributes` is what a probe should read in the answer. `changed` names those that an edit changes. `region` marks
    the pixels that an edit may change. `scene_category` is the kind of scene (an edit's `category` is its kind of
    edit).
    """

    id: str
    task: str
    category: str
    prompt: str
    references: tuple[Image.Image, ...]
    target: Image.Image
    attributes: dict[str, str]
    changed: tuple[str, ...]
    letters: str | None
    region: np.ndarray | None
    scene_category: str
    scene: Scene

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in px."""
        return SIZE, SIZE


def cycle(names: tuple[str, ...], index: int, wanted: str | None) -> str:
    return wanted or names[index % len(names)]


def t2i_case(seed: int, index: int, split: Split = "heldout", category_: str | None = None) -> PocketCase:
    """Case `index`. Without `category_`, the three categories take turns."""
    kind = cycle(CATEGORIES, index, category_)
    rng = seeded_random("t2i", split, kind, seed, index)
    scene = random_scene(kind, rng, split)
    return PocketCase(
        id=f"pocket-t2i-{split}-{kind}-{seed}-{index}",
        task="t2i",
        category=kind,
        prompt=caption(scene, rng),
        references=(),
        target=render(scene),
        attributes=attributes(scene),
        changed=(),
        letters=letters(scene),
        region=None,
        scene_category=kind,
        scene=scene,
    )


def propose(kind: str, seed: int, index: int, split: Split) -> tuple[Edit, str]:
    """The edit and its instruction: the first draw that leads from a train scene to a scene of the split. Repairs and
    styles keep the scene, so their scene belongs to the split from the start."""
    source: Split = split if kind in ("perceptual", "style") else "train"
    rng = seeded_random("edit", split, kind, seed, index)
    scenes = {"text": ("text",), "identity": ("portrait",)}.get(kind, CATEGORIES)
    while True:
        edit = PROPOSE[kind](random_scene(rng.choice(scenes), rng, source), rng)
        if edit is not None and split_of(edit.target) == split:
            return edit, rng.choice(edit.wordings) + END


def edit_case(seed: int, index: int, split: Split = "heldout", kind: str | None = None) -> PocketCase:
    """Edit `index`. Without `kind`, the six kinds take turns. Held-out edits lead to held-out scenes."""
    kind = cycle(EDITS, index, kind)
    edit, instruction = propose(kind, seed, index, split)
    source, target = edit_images(edit, (split, kind, seed, index))
    return PocketCase(
        id=f"pocket-edit-{split}-{kind}-{seed}-{index}",
        task="edit",
        category=kind,
        prompt=instruction,
        references=(source,),
        target=target,
        attributes={"style": edit.style} if edit.style else attributes(edit.target),
        changed=edit.changed,
        letters=None if edit.style else letters(edit.target),
        region=region(source, target, whole=bool(edit.corruption or edit.style)),
        scene_category=category(edit.target),
        scene=edit.target,
    )
