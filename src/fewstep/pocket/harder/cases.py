"""Cases of the harder world's examination: a prompt or an edit, and everything needed to examine the answer.

`prompt_case` and `instruction_case` are pure functions of (seed, index). Prompts come in three lengths, in turn. A
short one names a few attributes, and a middle one all but one: what it leaves out is listed, as exact answers. A long
one names all of them and has asides; some name light and pose as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fewstep.pocket.edits import region
from fewstep.pocket.harder.attributes import CATEGORIES, NONE
from fewstep.pocket.harder.captions import END, Named, caption, usual
from fewstep.pocket.harder.edits import EDITS, PROPOSE, Edit, edit_images, possible, reference_edit
from fewstep.pocket.harder.exact_answers import RGBArray, exact_answers
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import RANDOM, Scene, Size, Split, hair_hidden, random_scene, split_of
from fewstep.runtime.seeded import seeded_random

LENGTHS = ("middle", "short", "long")
TAKING = {"two-pictures": 1, "three-pictures": 2}  # kinds of edit that take something from so many further pictures
EDIT_KINDS = (*EDITS, *TAKING)
TAKING_SIZE: Size = (96, 96)  # as in the corpus
WHOLE = ("perceptual", "style")  # kinds of edit that change every pixel
WORD = "word"

# What a caption only says beside something else: category -> attribute -> those that it must name too.
SAID_WITH: dict[str, dict[str, tuple[str, ...]]] = {
    "landscape": {"colour": ("thing",), "count": ("thing",), "place": ("thing",)},
    "portrait": {"hat_colour": ("hat",), "clothes": ("garment",)},
    "text": {},
    "still-life": {
        "count": ("fruit",),
        "colour": ("fruit",),
        "side": ("fruit", "vessel"),
        "paint": ("vessel",),
        "material": ("vessel",),
    },
}


@dataclass(frozen=True, eq=False)
class HarderCase:
    """One prompt or one edit, with its answer.

    `category` is the prompt's category, or the edit's kind; `scene` what the answer shows. `asked`: the attributes that
    the prompt names, or that the edit changes; `kept`: those that the edit has to leave as they are. Either may hold
    the word of a sign (`WORD`). Of a style nothing else can be read. `named`: what leaves no answer open. `region`: the
    pixels that an edit may change.
    """

    id: str
    task: str
    category: str
    prompt: str
    references: tuple[Image.Image, ...]
    target: Image.Image
    scene: Scene
    asked: tuple[str, ...]
    kept: tuple[str, ...] = ()
    length: str | None = None
    named: Named = frozenset()
    style: str | None = None
    region: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.scene.size[1], self.scene.size[0]

    @property
    def answers(self) -> tuple[RGBArray, ...]:
        """The exact pictures (H, W, 3): an edit has one; none where a prompt has too many to list."""
        if self.task == "edit":
            return (np.asarray(self.target),)
        return exact_answers(self.scene, self.named)

    def answer_at_random(self, rng: random.Random) -> Image.Image:
        """One of the exact pictures, also where they are too many to list."""
        if self.task == "edit":
            return self.target
        while True:
            other = RANDOM[self.scene.category](rng)
            free = {each.name: other[each.name] for each in CATEGORIES[self.scene.category]}
            it = self.scene.having(**{name: value for name, value in free.items() if name not in self.named})
            if possible(it):
                return render(it)


def sayable(it: Scene, named: Named) -> Named:
    """Those of the named attributes that a caption really says."""
    beside = SAID_WITH[it.category]
    return frozenset(name for name in named if all(other in named for other in beside.get(name, ())))


def readable(it: Scene, names: Named) -> tuple[str, ...]:
    """Those of these attributes that a picture of this scene shows, in the order of the table, the word last. What is
    not there has no colour, nor has what a hat covers."""
    gone = {name for name, beside in SAID_WITH[it.category].items() if any(it[other] == NONE for other in beside)}
    gone |= {"hair"} if hair_hidden(it) else set()
    found = [each.name for each in CATEGORIES[it.category] if each.name in names and each.name not in gone]
    return (*found, WORD) if it.word and WORD in names else tuple(found)


def case_names(it: Scene, length: str, rng: random.Random) -> Named:
    """What a prompt of this length names."""
    every = usual(it)
    alone = sorted(name for name in readable(it, every) if name != WORD and name not in SAID_WITH[it.category])
    if length == "short":
        return frozenset(rng.sample(alone, rng.randint(1, 3))) | {WORD}
    if length == "middle":
        heads = {other for beside in SAID_WITH[it.category].values() for other in beside}
        return every - {rng.choice(sorted(every - heads - {WORD}))}
    quiet = [each.name for each in CATEGORIES[it.category] if each.quiet]
    return every | {name for name in quiet if rng.random() < 0.3}


def prompt_case(seed: int, index: int, category: str, split: Split = "heldout") -> HarderCase:
    """Prompt `index` of a category. Its length follows from the index."""
    rng = seeded_random("harder prompt", split, category, seed, index)
    it, length = random_scene(category, rng, split), LENGTHS[index % len(LENGTHS)]
    named = sayable(it, case_names(it, length, rng))
    return HarderCase(
        id=f"harder-t2i-{split}-{category}-{seed}-{index}",
        task="t2i",
        category=category,
        prompt=caption(it, rng, named, asides=rng.randint(2, 5) if length == "long" else 0),
        references=(),
        target=render(it),
        scene=it,
        asked=readable(it, named),
        length=length,
        named=named,
    )


def proposed(kind: str, rng: random.Random, split: Split) -> Edit:
    """The first edit drawn that leads to a scene of the split, from a train scene. Repairs and styles keep the scene,
    so theirs belongs to the split from the start."""
    source: Split = split if kind in WHOLE else "train"
    categories = {"text": ("text",), "identity": ("portrait",)}.get(kind, tuple(CATEGORIES))
    while True:
        category, taken = rng.choice(categories), TAKING.get(kind)
        it = random_scene(category, rng, source, TAKING_SIZE if taken else None)
        edit = PROPOSE[kind](it, rng) if taken is None else reference_edit(it, rng, taken)
        if edit is not None and split_of(edit.target) == split:
            return edit


def instruction_case(seed: int, index: int, kind: str, split: Split = "heldout") -> HarderCase:
    """Edit `index` of a kind: one of the six, or one that takes from further pictures."""
    rng = seeded_random("harder edit", split, kind, seed, index)
    edit = proposed(kind, rng, split)
    *references, target = edit_images(edit, (split, kind, seed, index))
    shown = frozenset({each.name for each in CATEGORIES[edit.target.category]} | {WORD})
    return HarderCase(
        id=f"harder-edit-{split}-{kind}-{seed}-{index}",
        task="edit",
        category=kind,
        prompt=rng.choice(edit.wordings) + END,
        references=tuple(references),
        target=target,
        scene=edit.target,
        asked=edit.changed,
        kept=() if edit.style else readable(edit.target, shown - frozenset(edit.changed)),
        style=edit.style,
        region=region(references[0], target, whole=kind in WHOLE),
    )
