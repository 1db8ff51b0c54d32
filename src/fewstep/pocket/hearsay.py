"""What careless writers say of pictures: the noise in the pocket teacher's training corpus.

Captions found in the wild leave things out and get things wrong, and pairs of edits are not always done as told. A
teacher trained on such pairs follows its prompt only as often as the corpus does, and needs guidance to do better: so
do the large released ones, and so does the pocket teacher. Prompts to distil with, and to examine with, are exact.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeVar

from fewstep.pocket.edits import PROPOSE, Edit
from fewstep.pocket.world import GLYPHS, RANDOM, Landscape, Scene, Sign, attributes, category

# All ours: with them the unguided teacher is right about as often as people's captions are.
WRONG = 0.15  # of an attribute
LETTER_WRONG = 0.10  # of a letter
CURT = 0.3  # captions that leave things out ...
UNSAID = 0.3  # ... each attribute of theirs
UNDONE = 0.08  # edits whose target is the source
MISTAKEN = 0.08  # edits whose target is another edit's of the same kind

Kind = TypeVar("Kind", bound=Scene)


def told(scene: Scene, rng: random.Random) -> tuple[Scene, frozenset[str]]:
    """What a careless caption says: the scene with some attributes wrong, and the names of those not mentioned."""
    curt = rng.random() < CURT
    unsaid = frozenset(name for name in attributes(scene) if rng.random() < UNSAID) if curt else frozenset()
    return misheard(scene, rng), unsaid


def misheard(scene: Scene, rng: random.Random) -> Scene:
    """Each attribute another scene's with the chance WRONG; a thing comes with its colour and place."""
    if isinstance(scene, Landscape):
        return _misheard_landscape(scene, rng)
    strange = RANDOM[category(scene)](rng)
    names = [name for name in attributes(scene) if rng.random() < WRONG and name != "shape"]
    scene = replace(scene, **{name: getattr(strange, name) for name in names})
    if isinstance(scene, Sign):
        word = (rng.choice(GLYPHS) if rng.random() < LETTER_WRONG else glyph for glyph in scene.letters)
        scene = replace(scene, letters="".join(word))
    return scene


def _misheard_landscape(scene: Landscape, rng: random.Random) -> Landscape:
    strange = RANDOM["landscape"](rng)
    groups = (("sky",), ("ground",), ("mountains",), ("body",), ("thing", "colour", "place"))
    names = [name for group in groups if rng.random() < WRONG for name in group]
    return replace(scene, **{name: getattr(strange, name) for name in names})


def done(edit: Edit, kind: str, rng: random.Random) -> Edit | None:
    """What a careless editor does when told `edit`: mostly that, sometimes another edit of its kind, sometimes nothing
    (None)."""
    chance = rng.random()
    if chance < UNDONE:
        return None
    if chance < UNDONE + MISTAKEN:
        another = PROPOSE[kind](edit.source, rng)
        # A repair cannot be mistaken for another: the harm is there to see.
        return edit if another is None or edit.harm else another
    return edit
