"""Caption noise: the errors in the pocket teacher's training corpus.

Captions found in the wild leave things out and get things wrong, and pairs of edits do not always follow the
instruction. A teacher trained on such pairs follows its prompt only as often as the corpus does, and needs guidance to
do better. This holds for the large released models, and for the pocket teacher. Prompts for distillation and
examination are exact.
"""

from __future__ import annotations

import random
from dataclasses import replace

from fewstep.pocket.edits import PROPOSE, Edit
from fewstep.pocket.world import (
    GLYPHS,
    RANDOM,
    Landscape,
    Scene,
    Sign,
    attributes,
    category,
)

# All ours: with them the unguided teacher is right about as often as captions written by people.
WRONG_ATTRIBUTE_RATE = 0.15  # per attribute
WRONG_LETTER_RATE = 0.10  # per letter
SHORT_CAPTION_RATE = 0.3  # share of captions that leave things out ...
OMISSION_RATE = 0.3  # ... and the share of attributes that such a caption leaves out
UNDONE_EDIT_RATE = 0.08  # share of edits whose target is the source
WRONG_EDIT_RATE = 0.08  # share of edits whose target is that of another edit of the same kind


def noisy_description(scene: Scene, rng: random.Random) -> tuple[Scene, frozenset[str]]:
    """What a noisy caption describes: the scene with some attributes wrong, and the names of those not mentioned."""
    short = rng.random() < SHORT_CAPTION_RATE
    omitted = frozenset(name for name in attributes(scene) if rng.random() < OMISSION_RATE) if short else frozenset()
    return with_wrong_attributes(scene, rng), omitted


def with_wrong_attributes(scene: Scene, rng: random.Random) -> Scene:
    """Replaces each attribute by another scene's with probability WRONG_ATTRIBUTE_RATE; a thing is replaced with its
    colour and place."""
    if isinstance(scene, Landscape):
        return _landscape_with_wrong_attributes(scene, rng)
    other_scene = RANDOM[category(scene)](rng)
    names = [name for name in attributes(scene) if rng.random() < WRONG_ATTRIBUTE_RATE and name != "shape"]
    scene = replace(scene, **{name: getattr(other_scene, name) for name in names})
    if isinstance(scene, Sign):
        word = (rng.choice(GLYPHS) if rng.random() < WRONG_LETTER_RATE else glyph for glyph in scene.letters)
        scene = replace(scene, letters="".join(word))
    return scene


def _landscape_with_wrong_attributes(scene: Landscape, rng: random.Random) -> Landscape:
    other_scene = RANDOM["landscape"](rng)
    groups = (("sky",), ("ground",), ("mountains",), ("body",), ("thing", "colour", "place"))
    names = [name for group in groups if rng.random() < WRONG_ATTRIBUTE_RATE for name in group]
    return replace(scene, **{name: getattr(other_scene, name) for name in names})


def noisy_edit(edit: Edit, kind: str, rng: random.Random) -> Edit | None:
    """The edit that a noisy pair shows for `edit`: mostly itself, sometimes another edit of its kind, sometimes none
    (None)."""
    chance = rng.random()
    if chance < UNDONE_EDIT_RATE:
        return None
    if chance < UNDONE_EDIT_RATE + WRONG_EDIT_RATE:
        another = PROPOSE[kind](edit.source, rng)
        # A repair cannot be mistaken for another: the corruption is visible.
        return edit if another is None or edit.corruption else another
    return edit
