"""Captions of scenes and instructions of edits.

A caption is a chain of phrases, each naming one attribute with one value. In the tokenizer (`vocabulary.py`) every
phrase is one token, and so is every letter together with the quotation mark next to it. So reading is a matter of
look-ups.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from fewstep.pocket.world import (
    BOARDS,
    HAIRS,
    INKS,
    LENGTHS,
    MOODS,
    OBJECT_COLOURS,
    PLACES,
    SHAPES,
    SHIRTS,
    SKINS,
    WALLS,
    Landscape,
    Portrait,
    Scene,
    Sign,
)

SKY = {"day": " by day", "dawn": " at dawn", "sunset": " at sunset", "night": " at night"}
GROUND = {"grass": " over grass", "sand": " over sand", "snow": " over snow", "sea": " over the sea"}
MOUNTAINS = {"purple": " with purple mountains", "grey": " with grey mountains", "none": " with no mountains"}
BODY = {"sun": " under a sun", "moon": " under a moon", "none": " under an empty sky"}
PLACE = {place: f" {'in' if place == 'middle' else 'on'} the {place}" for place in PLACES}
SKIN = {skin: f" with {skin} skin" for skin in SKINS}
LENGTH = {length: f" and {length}" for length in LENGTHS}
HAIR = {hair: f" {hair} hair" for hair in HAIRS}
GLASSES = {"yes": " wearing glasses", "no": " without glasses"}
MOOD = {mood: f" {mood}" for mood in MOODS}
SHIRT = {shirt: f" in a {shirt} shirt" for shirt in SHIRTS}
WALL = {wall: f" before {'an' if wall == 'orange' else 'a'} {wall} wall" for wall in WALLS}
SHAPE = {shape: f" shaped as {'a' if shape == 'board' else 'an'} {shape}" for shape in SHAPES}
BOARD = {board: f" painted {board}" for board in BOARDS}
INK = {ink: f" with {ink} letters" for ink in INKS}
READS = (" reading", " that reads")
OPENINGS = {
    "landscape": ("A landscape", "A wide view", "Open country"),
    "portrait": ("A portrait", "A person", "Someone"),
    "text": ("A sign", "A signpost", "A street sign"),
}
END = "."


def thing(kind: str, colour: str) -> str:
    return " nothing else" if kind == "none" else f" {'an' if colour == 'orange' else 'a'} {colour} {kind}"


def quoted_word(word: str) -> str:
    return f' "{word}"'


OmittedNames = frozenset[str]  # names of attributes that a caption leaves out; `thing` also leaves out colour and place


def caption(scene: Scene, rng: random.Random, omitted: OmittedNames = frozenset()) -> str:
    """One sentence that names every captioned attribute except those in `omitted`. Its order and wording vary a little.
    Omissions do not change how the rest is worded."""
    if isinstance(scene, Landscape):
        parts = landscape_parts(scene, rng)
    else:
        parts = portrait_parts(scene, rng) if isinstance(scene, Portrait) else sign_parts(scene, rng)
    return "".join(phrase for name, phrase in parts if name not in omitted)


CaptionParts = list[tuple[str, str]]  # (the attribute a phrase names, the phrase)


def landscape_parts(scene: Landscape, rng: random.Random) -> CaptionParts:
    around = [("sky", SKY[scene.sky]), ("body", BODY[scene.body]), ("ground", GROUND[scene.ground])]
    rng.shuffle(around)
    thing_there = [
        ("thing", " and"),
        ("thing", thing(scene.thing, scene.colour)),
        ("thing", PLACE.get(scene.place, "")),
    ]
    opening = ("", rng.choice(OPENINGS["landscape"]))
    return [opening, *around, ("mountains", MOUNTAINS[scene.mountains]), *thing_there, ("", END)]


def portrait_parts(scene: Portrait, rng: random.Random) -> CaptionParts:
    head = [("skin", SKIN[scene.skin]), ("length", LENGTH[scene.length]), ("hair", HAIR[scene.hair])]
    rest = [
        *(("mood", MOOD[scene.mood]), ("glasses", GLASSES[scene.glasses])),
        *(("shirt", SHIRT[scene.shirt]), ("wall", WALL[scene.wall])),
    ]
    order = rng.choice(((0, 1, 2, 3), (1, 0, 2, 3), (2, 3, 0, 1), (2, 1, 0, 3)))
    return [("", rng.choice(OPENINGS["portrait"])), *head, *(rest[i] for i in order), ("", END)]


def sign_parts(scene: Sign, rng: random.Random) -> CaptionParts:
    looks = [("shape", SHAPE[scene.shape]), ("board", BOARD[scene.board])]
    rng.shuffle(looks)
    opening = ("", rng.choice(OPENINGS["text"]))
    word = [("letters", rng.choice(READS)), ("letters", quoted_word(scene.letters))]
    return [opening, *looks, ("ink", INK[scene.ink]), *word, ("wall", WALL[scene.wall]), ("", END)]


# Instructions of edits: an attribute's new value -> wordings.
REPLACE: dict[str, Callable[[str], tuple[str, ...]]] = {
    "sky": lambda v: (f"Show it{SKY[v]}", f"Paint it{SKY[v]}"),
    "ground": lambda v: (f"Set it{GROUND[v]}", f"Show it{GROUND[v]}"),
    "wall": lambda v: (f"Set it{WALL[v]}", f"Show it{WALL[v]}"),
    "hair": lambda v: (f"Give the person{HAIR[v]}", f"Change it to{HAIR[v]}"),
    "length": lambda v: (f"Make the hair {v}", f"Change the hair to {v}"),
    "mood": lambda v: (f"Show the person{MOOD[v]}", f"Paint the person{MOOD[v]}"),
    "shirt": lambda v: (f"Show the person{SHIRT[v]}", f"Paint the person{SHIRT[v]}"),
    "board": lambda v: (f"Show the sign{BOARD[v]}", f"Make the sign{BOARD[v]}"),
    "letters": lambda v: (f"Make it read{quoted_word(v)}", f"Change the letters to{quoted_word(v)}"),
}
GLASSES_EDIT = {
    "yes": ("Add glasses", "Show the person wearing glasses"),
    "no": ("Remove the glasses", "Show the person without glasses"),
}
STYLE_EDIT = {
    "sepia": ("Make it a sepia photo", "Turn it into a sepia photo"),
    "grey": ("Make it a grey photo", "Turn it into a grey photo"),
    "negative": ("Make it a negative", "Turn it into a negative"),
    "mosaic": ("Make it a mosaic", "Turn it into a mosaic"),
}
RESTORE = {
    "blur": ("Remove the blur", "Sharpen the picture"),
    "noise": ("Remove the noise", "Clean the picture"),
    "dark": ("Remove the darkness", "Brighten the picture"),
}


def add_thing(kind: str, colour: str, place: str) -> tuple[str, ...]:
    what = thing(kind, colour) + PLACE[place]
    return (f"Add{what}", f"Draw{what}")


def remove_thing(kind: str) -> tuple[str, ...]:
    return (f"Remove the {kind}", f"Take away the {kind}")


def repaint_thing(kind: str, colour: str) -> tuple[str, ...]:
    return (f"Paint the {kind} {colour}", f"Make the {kind} {colour}")


def swap_body(old: str, new: str) -> tuple[str, ...]:
    return (f"Replace the {old} with a {new}", f"Turn the {old} into a {new}")


def phrases() -> list[str]:
    """Every phrase that is one token. A caption is a chain of these and of quoted letters."""
    tables = (SKY, GROUND, MOUNTAINS, BODY, PLACE, SKIN, LENGTH, HAIR, GLASSES, MOOD, SHIRT, WALL, SHAPE, BOARD, INK)
    found = [phrase for table in tables for phrase in table.values()]
    found += [thing(kind, colour) for kind, colours in OBJECT_COLOURS.items() for colour in colours]
    found += [f" {word}" for word in (*LENGTHS, *(c for colours in OBJECT_COLOURS.values() for c in colours))]
    found += [*READS, " and", " to", " read", END, *(opening for some in OPENINGS.values() for opening in some)]
    found += ["Show it", "Paint it", "Set it", "Make it", "Turn it", "Give the person", "Change it to", "Make the hair"]
    found += ["Change the hair", "Show the person", "Paint the person", "Show the sign", "Make the sign", "Add", "Draw"]
    found += ["Change the letters to", "Add glasses", "Remove the glasses"]
    found += [wording for wordings in RESTORE.values() for wording in wordings]
    found += [
        f" {a}{what}" for a in ("", "into ") for what in ("a sepia photo", "a grey photo", "a negative", "a mosaic")
    ]
    for kind in OBJECT_COLOURS:
        found += [*remove_thing(kind), f"Paint the {kind}", f"Make the {kind}"] if kind != "none" else []
    for body in ("sun", "moon"):
        found += [*remove_thing(body), f"Replace the {body}", f"Turn the {body}", f" with a {body}", f" into a {body}"]
    return list(dict.fromkeys(found))
