"""The pocket world: what a scene is, and how scenes are drawn at random.

There are three categories of picture: landscapes, portraits and signs with letters. Each is a frozen record of a few
attributes. A caption names every attribute but `light` and `pose`, which are left free so that seeds differ. Everything
is a pure function of (split, seed, index). A hash of the captioned attributes divides train and held-out scenes, so a
held-out scene, or a held-out word of two or three letters, was never trained on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

Split = Literal["train", "heldout"]
CATEGORIES = ("landscape", "portrait", "text")
FREE = ("light", "pose")  # not captioned, left to the seed
HELDOUT_PERIOD = 10  # ours: one scene in ten is held out

GLYPHS = "ABCEHJKLMOPSTUWXYZ"  # 18 capitals that can be told apart at 13 x 14 px
SKIES = ("day", "dawn", "sunset", "night")
GROUNDS = ("grass", "sand", "snow", "sea")
MOUNTAINS = ("purple", "grey", "none")
BODIES = ("sun", "moon", "none")
OBJECTS = ("house", "tree", "boat", "none")
OBJECT_COLOURS = {
    "house": ("red", "blue", "yellow"),
    "tree": ("green", "orange", "pink"),
    "boat": ("red", "white", "yellow"),
    "none": ("none",),
}
PLACES = ("left", "middle", "right")
SKINS = ("pale", "tan", "brown")
HAIRS = ("black", "blond", "red", "white", "blue")
LENGTHS = ("short", "long", "curly")
GLASSES = ("yes", "no")
MOODS = ("smiling", "frowning", "gasping")
SHIRTS = ("red", "blue", "green", "yellow", "white")
WALLS = ("blue", "teal", "green", "pink", "orange", "purple")
SHAPES = ("board", "oval", "arrow")
BOARD_LETTERS = {  # pairs that read well
    "red": ("white", "black", "yellow"),
    "blue": ("white", "yellow"),
    "green": ("white", "black", "yellow"),
    "white": ("black", "red"),
    "yellow": ("black", "red"),
    "black": ("white", "yellow", "red"),
}
BOARDS = tuple(BOARD_LETTERS)
INKS = ("white", "black", "yellow", "red")


@dataclass(frozen=True)
class Landscape:
    sky: str
    ground: str
    mountains: str
    body: str
    thing: str
    colour: str
    place: str
    light: int = 0
    pose: int = 0


@dataclass(frozen=True)
class Portrait:
    skin: str
    hair: str
    length: str
    glasses: str
    mood: str
    shirt: str
    wall: str
    light: int = 0
    pose: int = 0


@dataclass(frozen=True)
class Sign:
    shape: str
    board: str
    ink: str
    wall: str
    letters: str
    light: int = 0
    pose: int = 0


Scene = Landscape | Portrait | Sign

# Every attribute a probe reads, with its values. `letters` is read apart, glyph by glyph.
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "landscape": {
        "sky": SKIES,
        "ground": GROUNDS,
        "mountains": MOUNTAINS,
        "body": BODIES,
        "thing": OBJECTS,
        "colour": ("red", "blue", "yellow", "green", "orange", "pink", "white", "none"),
        "place": (*PLACES, "none"),
    },
    "portrait": {
        "skin": SKINS,
        "hair": HAIRS,
        "length": LENGTHS,
        "glasses": GLASSES,
        "mood": MOODS,
        "shirt": SHIRTS,
        "wall": WALLS,
    },
    "text": {"shape": SHAPES, "board": BOARDS, "ink": INKS, "wall": WALLS},
}


def category(scene: Scene) -> str:
    return {Landscape: "landscape", Portrait: "portrait", Sign: "text"}[type(scene)]


def attributes(scene: Scene) -> dict[str, str]:
    """The attributes that a caption names and a probe should read, without letters."""
    names = [f.name for f in fields(scene) if f.name not in FREE and f.name != "letters"]
    return {name: getattr(scene, name) for name in names}


def letters(scene: Scene) -> str | None:
    return scene.letters if isinstance(scene, Sign) else None


def heldout(*what: object) -> bool:
    digest = hashlib.blake2b(repr(what).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELDOUT_PERIOD == 0


def split_of(scene: Scene) -> Split:
    """Decided by the captioned attributes. For a sign by its word; for a one-letter sign by all attributes."""
    if isinstance(scene, Sign) and len(scene.letters) > 1:
        return "heldout" if heldout(scene.letters) else "train"
    return "heldout" if heldout(attributes(scene), letters(scene)) else "train"


def random_landscape(rng: random.Random) -> Landscape:
    ground = rng.choice(GROUNDS)
    thing = rng.choice(("boat", "boat", "none") if ground == "sea" else ("house", "house", "tree", "tree", "none"))
    return Landscape(
        sky=rng.choice(SKIES),
        ground=ground,
        mountains=rng.choice(MOUNTAINS),
        body=rng.choice(BODIES),
        thing=thing,
        colour=rng.choice(OBJECT_COLOURS[thing]),
        place="none" if thing == "none" else rng.choice(PLACES),
        light=rng.randrange(2),
        pose=rng.randrange(2),
    )


def random_portrait(rng: random.Random) -> Portrait:
    return Portrait(
        skin=rng.choice(SKINS),
        hair=rng.choice(HAIRS),
        length=rng.choice(LENGTHS),
        glasses=rng.choice(GLASSES),
        mood=rng.choice(MOODS),
        shirt=rng.choice(SHIRTS),
        wall=rng.choice(WALLS),
        light=rng.randrange(2),
        pose=rng.randrange(2),
    )


def random_word(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(GLYPHS) for _ in range(length))


def random_sign(rng: random.Random) -> Sign:
    """Words of one, two or three letters, 1 : 2 : 3. Three letters need the arrow, which runs off the picture."""
    length = rng.choice((1, 2, 2, 3, 3, 3))
    board = rng.choice(BOARDS)
    return Sign(
        shape="arrow" if length == 3 else rng.choice(("board", "oval")),
        board=board,
        ink=rng.choice(BOARD_LETTERS[board]),
        wall=rng.choice(WALLS),
        letters=random_word(rng, length),
        light=rng.randrange(2),
    )


RANDOM: dict[str, Callable[[random.Random], Scene]] = {
    "landscape": random_landscape,
    "portrait": random_portrait,
    "text": random_sign,
}


def random_scene(category_: str, rng: random.Random, split: Split) -> Scene:
    """A scene of this category that belongs to the split."""
    while True:
        scene = RANDOM[category_](rng)
        if split_of(scene) == split:
            return scene
