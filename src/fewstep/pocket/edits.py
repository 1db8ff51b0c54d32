"""The six kinds of edit: an instruction and its one exact result.

An edit is only proposed if the source picture and the instruction determine its result. The target may show nothing
that the source does not (a hidden pose, for example).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from fewstep.pocket import captions
from fewstep.pocket.render import render
from fewstep.pocket.world import (
    BOARD_LETTERS,
    BODIES,
    GROUNDS,
    HAIRS,
    LENGTHS,
    MOODS,
    OBJECT_COLOURS,
    PLACES,
    SHIRTS,
    SKIES,
    WALLS,
    Landscape,
    Portrait,
    Scene,
    Sign,
    random_word,
)
from fewstep.runtime.seeded import seeded_random

EDITS = ("scene", "perceptual", "object", "text", "identity", "style")
STYLES = ("sepia", "grey", "negative", "mosaic")
SOURCE_CORRUPTIONS = ("blur", "noise", "dark")


@dataclass(frozen=True)
class Edit:
    """source -> target. A corruption damages the source picture; a style transforms the target's."""

    source: Scene
    target: Scene
    wordings: tuple[str, ...]
    changed: tuple[str, ...]
    corruption: str | None = None
    style: str | None = None


def other(rng: random.Random, values: tuple[str, ...], old: str) -> str:
    return rng.choice([value for value in values if value != old])


def changed_to(scene: Scene, name: str, value: str) -> Edit:
    target: Scene = replace(scene, **{name: value})  # type: ignore[arg-type]
    return Edit(scene, target, captions.REPLACE[name](value), (name,))


def scene_edit(scene: Scene, rng: random.Random) -> Edit | None:
    if not isinstance(scene, Landscape):
        return changed_to(scene, "wall", other(rng, WALLS, scene.wall))
    if rng.random() < 0.5:
        return changed_to(scene, "sky", other(rng, SKIES, scene.sky))
    on_land = tuple(g for g in GROUNDS if g != "sea")
    if scene.thing == "boat":
        return None
    return changed_to(scene, "ground", other(rng, GROUNDS if scene.thing == "none" else on_land, scene.ground))


def object_edit(scene: Scene, rng: random.Random) -> Edit | None:
    if isinstance(scene, Portrait):
        return changed_to(scene, "shirt", other(rng, SHIRTS, scene.shirt))
    if isinstance(scene, Sign):
        boards = [b for b, inks in BOARD_LETTERS.items() if scene.ink in inks and b != scene.board]
        return changed_to(scene, "board", rng.choice(boards)) if boards else None
    if rng.random() < 0.3:
        return body_edit(scene, rng)
    return thing_edit(scene, rng)


def body_edit(scene: Landscape, rng: random.Random) -> Edit | None:
    """Remove the sun or moon, or swap them. To add one would require guessing its side."""
    if scene.body == "none":
        return None
    new = other(rng, BODIES, scene.body)
    wordings = captions.remove_thing(scene.body) if new == "none" else captions.swap_body(scene.body, new)
    return Edit(scene, replace(scene, body=new), wordings, ("body",))


def thing_edit(scene: Landscape, rng: random.Random) -> Edit:
    if scene.thing == "none":
        kind = "boat" if scene.ground == "sea" else rng.choice(("house", "tree"))
        colour, place = rng.choice(OBJECT_COLOURS[kind]), rng.choice(PLACES)
        target = replace(scene, thing=kind, colour=colour, place=place)
        return Edit(scene, target, captions.add_thing(kind, colour, place), ("thing", "colour", "place"))
    if rng.random() < 0.5:
        target = replace(scene, thing="none", colour="none", place="none")
        return Edit(scene, target, captions.remove_thing(scene.thing), ("thing",))
    colour = other(rng, OBJECT_COLOURS[scene.thing], scene.colour)
    return Edit(scene, replace(scene, colour=colour), captions.repaint_thing(scene.thing, colour), ("colour",))


def text_edit(scene: Scene, rng: random.Random) -> Edit | None:
    if not isinstance(scene, Sign):
        return None
    word = random_word(rng, len(scene.letters))
    return None if word == scene.letters else changed_to(scene, "letters", word)


def identity_edit(scene: Scene, rng: random.Random) -> Edit | None:
    if not isinstance(scene, Portrait):
        return None
    name, values = rng.choice((("hair", HAIRS), ("length", LENGTHS), ("glasses", ("yes", "no")), ("mood", MOODS)))
    value = other(rng, values, getattr(scene, name))
    if name == "glasses":
        return Edit(scene, replace(scene, glasses=value), captions.GLASSES_EDIT[value], ("glasses",))
    return changed_to(scene, name, value)


def perceptual_edit(scene: Scene, rng: random.Random) -> Edit:
    corruption = rng.choice(SOURCE_CORRUPTIONS)
    return Edit(scene, scene, captions.RESTORE[corruption], (), corruption=corruption)


def style_edit(scene: Scene, rng: random.Random) -> Edit:
    style = rng.choice(STYLES)
    return Edit(scene, scene, captions.STYLE_EDIT[style], ("style",), style=style)


PROPOSE = {
    "scene": scene_edit,
    "perceptual": perceptual_edit,
    "object": object_edit,
    "text": text_edit,
    "identity": identity_edit,
    "style": style_edit,
}


def corrupt(image: Image.Image, corruption: str, name: tuple[object, ...]) -> Image.Image:
    """A blurred, noisy or dark copy; the noise depends on `name` alone."""
    if corruption == "blur":
        return image.filter(ImageFilter.GaussianBlur(2.0))
    pixels = np.asarray(image).astype(np.float32)
    if corruption == "dark":
        return Image.fromarray((0.4 * pixels).astype(np.uint8))
    noise = np.random.default_rng(seeded_random("noise", *name).getrandbits(63)).normal(0, 28, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def stylise(image: Image.Image, style: str) -> Image.Image:
    if style == "mosaic":
        small = image.resize((image.width // 8, image.height // 8), Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.NEAREST)
    if style == "negative":
        return ImageOps.invert(image)
    grey = ImageOps.grayscale(image)
    if style == "grey":
        return grey.convert("RGB")
    return ImageOps.colorize(grey, (40, 22, 8), (255, 240, 206))


def edit_images(edit: Edit, name: tuple[object, ...]) -> tuple[Image.Image, Image.Image]:
    """(source, target)."""
    source, target = render(edit.source), render(edit.target)
    return (
        corrupt(source, edit.corruption, name) if edit.corruption else source,
        stylise(target, edit.style) if edit.style else target,
    )


def region(source: Image.Image, target: Image.Image, whole: bool) -> np.ndarray:
    """Which pixels may change, (H, W) bool: where the exact pictures differ, two pixels wider."""
    if whole:
        return np.ones((source.height, source.width), bool)
    gap = np.abs(np.asarray(source).astype(int) - np.asarray(target).astype(int)).max(-1) > 1
    grown = Image.fromarray(gap.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(5))
    return np.asarray(grown) > 0
