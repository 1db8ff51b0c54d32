"""Scenes of the harder world: a category, a value for each of its attributes, a size, and for a sign its word.

A scene is drawn at random as a pure function of (split, seed, index). A hash of what captions usually name divides
train and held-out scenes, so a held-out scene, or a held-out word of two letters and more, was never trained on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from fewstep.pocket.harder.attributes import (
    CATEGORIES,
    FRUIT_COLOURS,
    GLYPHS,
    INKS_ON,
    LONGEST_WORD,
    NONE,
    THING_COLOURS,
    attribute,
)

Split = Literal["train", "heldout"]
Size = tuple[int, int]  # width, height in px
HELDOUT_PERIOD = 10  # ours: one scene in ten is held out
SIZES: dict[Size, int] = {(96, 96): 5, (96, 128): 2, (128, 96): 2, (128, 128): 1}  # ours: how often each is drawn
PIXELS = tuple((high, wide) for wide, high in SIZES)  # height and width
HATS_OVER: dict[str, tuple[str, ...]] = {  # under which a style of hair can still be told
    "short": ("cap", "beanie", "sunhat", NONE),
    "long": ("cap", "beanie", "sunhat", NONE),
    "curly": ("cap", "beanie", "sunhat", NONE),
    "tied": ("cap", NONE),
    "spiky": (NONE,),
}
LARGE_ROOM = 4  # letters of 16 px that fit a width of 96 px beside the sign's edges


@dataclass(frozen=True)
class Scene:
    category: str
    named: tuple[tuple[str, str], ...]  # attribute -> value, in the order of the table
    word: str = ""
    size: Size = (96, 96)

    def __getitem__(self, name: str) -> str:
        return dict(self.named)[name]

    def having(self, **values: str) -> Scene:
        """The same scene with these attributes changed."""
        return replace(self, named=tuple((name, values.get(name, value)) for name, value in self.named))


def hair_hidden(it: Scene) -> bool:
    """Under a hat no colour can be told of short hair: less than a pixel of it is seen."""
    return it.category == "portrait" and it["style"] == "short" and it["hat"] != NONE


def scene(category: str, values: dict[str, str], word: str = "", size: Size = (96, 96)) -> Scene:
    return Scene(category, tuple((a.name, values[a.name]) for a in CATEGORIES[category]), word, size)


def heldout(*what: object) -> bool:
    digest = hashlib.blake2b(repr(what).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELDOUT_PERIOD == 0


def split_of(it: Scene) -> Split:
    """Decided by what captions usually name; for a sign of several letters by its word alone. Size plays no part."""
    if len(it.word) > 1:
        return "heldout" if heldout(it.word) else "train"
    loud = [(a.name, it[a.name]) for a in CATEGORIES[it.category] if not a.quiet]
    return "heldout" if heldout(loud, it.word) else "train"


def any_value(category: str, rng: random.Random) -> dict[str, str]:
    return {each.name: rng.choice(each.values) for each in CATEGORIES[category]}


def random_landscape(rng: random.Random) -> Scene:
    values = any_value("landscape", rng)
    at_sea = values["ground"] == "sea"
    kind = rng.choice(("boat", "boat", "boat", NONE) if at_sea else ("house", "tree", "tower", "house", "tree", NONE))
    count = NONE if kind == NONE else rng.choice(("one", "one", "two", "three"))
    values |= {"thing": kind, "colour": rng.choice(THING_COLOURS[kind]), "count": count}
    values["place"] = rng.choice(("left", "middle", "right")) if count == "one" else NONE
    return scene("landscape", values)


def random_portrait(rng: random.Random) -> Scene:
    values = any_value("portrait", rng)
    if rng.random() < 0.4 or values["hat"] not in HATS_OVER[values["style"]]:
        values["hat"] = NONE
    colours = [colour for colour in attribute("portrait", "hat_colour").values if colour != NONE]
    values["hat_colour"] = NONE if values["hat"] == NONE else rng.choice(colours)
    return scene("portrait", values)


def random_word(rng: random.Random, length: int) -> str:
    """Of letters; one word in four also holds digits and marks."""
    glyphs = GLYPHS if rng.random() < 0.25 else GLYPHS[:26]
    return "".join(rng.choice(glyphs) for _ in range(length))


def random_sign(rng: random.Random) -> Scene:
    values = any_value("text", rng)
    values["ink"] = rng.choice(INKS_ON[values["board"]])
    longest = LARGE_ROOM if values["size"] == "large" else LONGEST_WORD
    return scene("text", values, random_word(rng, rng.randint(1, longest)))


def random_still_life(rng: random.Random) -> Scene:
    values = any_value("still-life", rng)
    values["colour"] = rng.choice(FRUIT_COLOURS[values["fruit"]])
    return scene("still-life", values)


RANDOM: dict[str, Callable[[random.Random], Scene]] = {
    "landscape": random_landscape,
    "portrait": random_portrait,
    "text": random_sign,
    "still-life": random_still_life,
}


def random_scene(category: str, rng: random.Random, split: Split, size: Size | None = None) -> Scene:
    """A scene of this category that belongs to the split; of a drawn size unless one is given."""
    while True:
        it = RANDOM[category](rng)
        if split_of(it) == split:
            return replace(it, size=size or rng.choices(list(SIZES), list(SIZES.values()))[0])
