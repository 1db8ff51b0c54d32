"""The errors of the harder teacher's training corpus, as captions found in the wild have them.

The teacher then follows its prompt as often as its corpus did, and needs guidance to do better
(`pocket_making/caption_noise.py` says why). Prompts to distil and to examine with are exact.
"""

from __future__ import annotations

import random
from dataclasses import replace

from fewstep.pocket.harder.attributes import CATEGORIES, GLYPHS
from fewstep.pocket.harder.edits import PROPOSE, Edit, possible
from fewstep.pocket.harder.scenes import RANDOM, Scene
from pocket_making.caption_noise import (
    UNDONE_EDIT_RATE,
    WRONG_ATTRIBUTE_RATE,
    WRONG_EDIT_RATE,
    WRONG_LETTER_RATE,
)

TOGETHER = (  # attributes that only make sense together are wrong together
    ("thing", "colour", "count", "place", "ground"),
    ("hat", "hat_colour", "style"),
    ("fruit", "colour"),
    ("board", "ink"),
)


def groups(category: str) -> list[tuple[str, ...]]:
    names = [each.name for each in CATEGORIES[category]]
    whole = [group for group in TOGETHER if set(group) <= set(names)]
    return [*whole, *((name,) for name in names if not any(name in group for group in whole))]


def misread(it: Scene, rng: random.Random) -> Scene:
    """What a careless caption describes: each group of attributes may be another scene's, each letter another one."""
    other = RANDOM[it.category](rng)
    wrong = [name for group in groups(it.category) if rng.random() < WRONG_ATTRIBUTE_RATE for name in group]
    found = it.having(**{name: other[name] for name in wrong})
    word = "".join(rng.choice(GLYPHS) if rng.random() < WRONG_LETTER_RATE else glyph for glyph in it.word)
    return replace(found if possible(found) else it, word=word)


def careless(edit: Edit, kind: str, rng: random.Random) -> Edit | None:
    """The edit that a pair of the corpus shows for `edit`: mostly itself, now and then another of its kind, or none
    (None). A repair cannot be mistaken for another: its damage is visible. Nor can what other pictures lend."""
    chance = rng.random()
    if chance < UNDONE_EDIT_RATE:
        return None
    if chance < UNDONE_EDIT_RATE + WRONG_EDIT_RATE and not edit.corruption and not edit.references:
        return PROPOSE[kind](edit.source, rng) or edit
    return edit
