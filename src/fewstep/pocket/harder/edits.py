"""Edits of the harder world: six kinds, an instruction, its one exact result, and up to two further pictures to take
something from ("the hat of image 2").

An edit is only proposed if the pictures and the instruction determine its result.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from fewstep.pocket import edits
from fewstep.pocket.harder.attributes import (
    FRUIT_COLOURS,
    INKS_ON,
    LONGEST_WORD,
    NONE,
    THING_COLOURS,
    article,
    attribute,
)
from fewstep.pocket.harder.captions import counted, plural, quoted_word
from fewstep.pocket.harder.render import render
from fewstep.pocket.harder.scenes import HATS_OVER, LARGE_ROOM, RANDOM, Scene, hair_hidden, random_word

EDITS = ("scene", "perceptual", "object", "text", "identity", "style")
CORRUPTIONS = {
    "blur": ("Remove the blur", "Sharpen the picture"),
    "noise": ("Remove the noise", "Clean the picture"),
    "dark": ("Remove the darkness", "Brighten the picture"),
    "faded": ("Bring the colours back", "Make the colours strong"),
}
STYLES = {
    "sepia": ("Make it a sepia photo", "Turn it into a sepia photo"),
    "grey": ("Make it a grey photo", "Turn it into a grey photo"),
    "poster": ("Make it a poster", "Turn it into a poster"),
    "mosaic": ("Make it a mosaic", "Turn it into a mosaic"),
}


@dataclass(frozen=True)
class Edit:
    """source -> target. A corruption damages the source picture, a style transforms the target's. `references` are the
    pictures after the source, image 2 and image 3."""

    source: Scene
    target: Scene
    wordings: tuple[str, ...]
    changed: tuple[str, ...]
    references: tuple[Scene, ...] = ()
    corruption: str | None = None
    style: str | None = None


def other(rng: random.Random, values: tuple[str, ...], old: str) -> str:
    return rng.choice([value for value in values if value not in (old, NONE)])


def told(it: Scene, name: str, value: str) -> str:
    return attribute(it.category, name).phrases[value]


def changed_to(it: Scene, wordings: tuple[str, ...], **values: str) -> Edit:
    return Edit(it, it.having(**values), wordings, tuple(values))


def drawn(it: Scene, name: str, rng: random.Random) -> str:
    return other(rng, attribute(it.category, name).values, it[name])


def shown(it: Scene, name: str, value: str) -> Edit:
    """For attributes whose phrase stands alone: ' at dawn', ' before a blue wall'."""
    text = told(it, name, value)
    return changed_to(it, (f"Show it{text}", f"Set it{text}"), **{name: value})


def scene_edit(it: Scene, rng: random.Random) -> Edit | None:
    names = {"landscape": ("time", "ground", "hills", "weather"), "still-life": ("wall", "table")}
    name = rng.choice(names.get(it.category, ("wall",)))
    value = drawn(it, name, rng)
    if name == "ground" and (it["thing"] == "boat" or (value == "sea" and it["thing"] != NONE)):
        return None
    return shown(it, name, value)


def object_edit(it: Scene, rng: random.Random) -> Edit | None:
    return OBJECT[it.category](it, rng)


def thing_edit(it: Scene, rng: random.Random) -> Edit | None:
    if it["thing"] == NONE:
        return added_thing(it, rng)
    kind, count = it["thing"], it["count"]
    noun = plural(told(it, "thing", kind), count)
    act = rng.randrange(3)
    if act == 0:
        gone = {"thing": NONE, "colour": NONE, "count": NONE, "place": NONE}
        return Edit(it, it.having(**gone), (f"Remove the{noun}", f"Take away the{noun}"), ("thing",))
    if act == 1:
        colour = other(rng, THING_COLOURS[kind], it["colour"])
        return changed_to(it, (f"Paint the{noun} {colour}", f"Make the{noun} {colour}"), colour=colour)
    return body_edit(it, rng)


def added_thing(it: Scene, rng: random.Random) -> Edit:
    kind = "boat" if it["ground"] == "sea" else rng.choice(("house", "tree", "tower"))
    colour, place = rng.choice(THING_COLOURS[kind]), rng.choice(("left", "middle", "right"))
    what = counted("one", f" {colour}{told(it, 'thing', kind)}") + told(it, "place", place)
    return changed_to(it, (f"Add{what}", f"Draw{what}"), thing=kind, colour=colour, count="one", place=place)


def body_edit(it: Scene, rng: random.Random) -> Edit | None:
    """Sun and moon stand where the light comes from, so one can be added."""
    old, new = it["body"], rng.choice([value for value in ("sun", "moon", NONE) if value != it["body"]])
    if old == NONE:
        return changed_to(it, (f"Add a {new}", f"Draw a {new}"), body=new)
    if new == NONE:
        return changed_to(it, (f"Remove the {old}", f"Take away the {old}"), body=new)
    return changed_to(it, (f"Replace the {old} with a {new}", f"Turn the {old} into a {new}"), body=new)


def garment_edit(it: Scene, rng: random.Random) -> Edit | None:
    act = rng.randrange(3)
    if act == 0:
        colour = drawn(it, "clothes", rng)
        return changed_to(
            it, (f"Paint the {it['garment']} {colour}", f"Make the {it['garment']} {colour}"), clothes=colour
        )
    if act == 1 and it["hat"] != NONE:
        noun = told(it, "hat", it["hat"])
        return changed_to(it, (f"Remove the{noun}", f"Take away the{noun}"), hat=NONE, hat_colour=NONE)
    hats = tuple(hat for hat in HATS_OVER[it["style"]] if hat not in (NONE, it["hat"]))
    if not hats:
        return None
    hat, colour = rng.choice(hats), other(rng, attribute("portrait", "hat_colour").values, NONE)
    what = article(f"{colour}{told(it, 'hat', hat)}")
    return changed_to(it, (f"Give the person {what}", f"Add {what}"), hat=hat, hat_colour=colour)


def board_edit(it: Scene, rng: random.Random) -> Edit | None:
    if rng.random() < 0.4:
        material = drawn(it, "material", rng)
        return changed_to(it, (f"Show the sign made of {material}", f"Make the sign of {material}"), material=material)
    boards = tuple(board for board, inks in INKS_ON.items() if it["ink"] in inks and board != it["board"])
    if not boards:
        return None
    board = rng.choice(boards)
    return changed_to(it, (f"Paint the sign {board}", f"Make the sign {board}"), board=board)


def table_edit(it: Scene, rng: random.Random) -> Edit | None:
    vessel, fruit = it["vessel"], plural(told(it, "fruit", it["fruit"]), it["count"])
    name = rng.choice(("paint", "material", "colour", "count"))
    if name == "count":
        count = drawn(it, "count", rng)
        what = counted(count, plural(told(it, "fruit", it["fruit"]), count))
        return changed_to(it, (f"Make it{what}", f"Show{what}"), count=count)
    if name == "colour":
        colour = other(rng, FRUIT_COLOURS[it["fruit"]], it["colour"])
        return changed_to(it, (f"Paint the{fruit} {colour}", f"Make the{fruit} {colour}"), colour=colour)
    value = drawn(it, name, rng)
    words = (f"Paint the {vessel} {value}", f"Make the {vessel} {value}")
    if name == "material":
        words = (f"Make the {vessel} of {value}", f"Show the {vessel} made of {value}")
    return changed_to(it, words, **{name: value})


OBJECT: dict[str, Callable[[Scene, random.Random], Edit | None]] = {
    "landscape": thing_edit,
    "portrait": garment_edit,
    "text": board_edit,
    "still-life": table_edit,
}


def text_edit(it: Scene, rng: random.Random) -> Edit | None:
    if it.category != "text":
        return None
    room = LARGE_ROOM if it["size"] == "large" else LONGEST_WORD
    word = random_word(rng, min(room, max(1, len(it.word) + rng.choice((-1, 0, 0, 1)))))
    wordings = (f"Make it read{quoted_word(word)}", f"Change the letters to{quoted_word(word)}")
    return None if word == it.word else Edit(it, replace(it, word=word), wordings, ("word",))


def identity_edit(it: Scene, rng: random.Random) -> Edit | None:
    if it.category != "portrait":
        return None
    name = rng.choice(("hair", "style", "glasses", "mood"))
    if name == "glasses" and it["glasses"] != NONE and rng.random() < 0.5:
        return changed_to(it, ("Remove the glasses", "Show the person without glasses"), glasses=NONE)
    value = drawn(it, name, rng)
    if (name == "style" and it["hat"] not in HATS_OVER[value]) or (name == "hair" and hair_hidden(it)):
        return None
    words = identity_words(it, name, value)
    return changed_to(it, words, **{name: value})


def identity_words(it: Scene, name: str, value: str) -> tuple[str, str]:
    if name == "hair":
        return f"Give the person {value} hair", f"Paint the hair {value}"
    if name == "style":
        return f"Make the hair {value}", f"Change the hair to {value}"
    text = told(it, name, value)
    return f"Show the person{text}", f"Paint the person{text}"


def perceptual_edit(it: Scene, rng: random.Random) -> Edit:
    corruption = rng.choice(list(CORRUPTIONS))
    return Edit(it, it, CORRUPTIONS[corruption], (), corruption=corruption)


def style_edit(it: Scene, rng: random.Random) -> Edit:
    style = rng.choice(list(STYLES))
    return Edit(it, it, STYLES[style], ("style",), style=style)


PROPOSE: dict[str, Callable[[Scene, random.Random], Edit | None]] = {
    "scene": scene_edit,
    "perceptual": perceptual_edit,
    "object": object_edit,
    "text": text_edit,
    "identity": identity_edit,
    "style": style_edit,
}

# What can be taken from another picture of the same category: kind of edit -> (attributes, what it is called).
TAKEN: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "portrait": {
        "hat": (("hat", "hat_colour"), "hat"),
        "hair": (("hair", "style"), "hair"),
        "clothes": (("garment", "clothes"), "clothes"),
        "glasses": (("glasses",), "glasses"),
        "wall": (("wall",), "wall"),
    },
    "landscape": {
        "hills": (("hills",), "hills"),
        "time": (("time",), "time of day"),
        "ground": (("ground",), "ground"),
    },
    "text": {
        "board": (("board", "ink"), "colours"),
        "material": (("material",), "material"),
        "wall": (("wall",), "wall"),
    },
    "still-life": {"vessel": (("vessel", "paint", "material"), "vessel"), "table": (("table",), "table")},
}


def reference_edit(it: Scene, rng: random.Random, pictures: int) -> Edit | None:
    """Takes something from each of one or two further pictures of the same category and size."""
    names = rng.sample(list(TAKEN[it.category]), pictures)
    others = tuple(replace(RANDOM[it.category](rng), size=it.size) for _ in names)
    target, changed, told_parts = it, [], []
    for number, (name, lent) in enumerate(zip(names, others, strict=True), start=2):
        attributes, called = TAKEN[it.category][name]
        target = target.having(**{each: lent[each] for each in attributes})
        changed += [each for each in attributes if it[each] != lent[each]]
        told_parts.append(f" the {called} of image {number}")
    nothing = any(
        lent[TAKEN[it.category][name][0][0]] in (NONE, it[TAKEN[it.category][name][0][0]])
        for name, lent in zip(names, others, strict=True)
    )
    if nothing or not possible(target) or ("hair" in changed and hair_hidden(target)):
        return None
    text = " and".join(told_parts)
    return Edit(it, target, (f"Give it{text}", f"Take{text}"), tuple(changed), references=others)


def possible(it: Scene) -> bool:
    """Whether `random_scene` could draw it: what a table alone does not say."""
    return POSSIBLE[it.category](it)


def possible_landscape(it: Scene) -> bool:
    """What is there has a colour of its own and a count, and what is not has none. One thing has a place; several stand
    in a row; boats, and nothing else, are at sea."""
    if it["colour"] not in THING_COLOURS[it["thing"]] or (it["thing"] == NONE) != (it["count"] == NONE):
        return False
    if (it["count"] == "one") != (it["place"] != NONE):
        return False
    return it["thing"] == NONE or (it["thing"] == "boat") == (it["ground"] == "sea")


def possible_portrait(it: Scene) -> bool:
    return it["hat"] in HATS_OVER[it["style"]] and (it["hat"] == NONE) == (it["hat_colour"] == NONE)


def possible_sign(it: Scene) -> bool:
    return it["ink"] in INKS_ON[it["board"]] and (it["size"] != "large" or len(it.word) <= LARGE_ROOM)


def possible_still_life(it: Scene) -> bool:
    return it["colour"] in FRUIT_COLOURS[it["fruit"]]


POSSIBLE: dict[str, Callable[[Scene], bool]] = {
    "landscape": possible_landscape,
    "portrait": possible_portrait,
    "text": possible_sign,
    "still-life": possible_still_life,
}


def instruction_phrases() -> list[str]:
    """What instructions say beside the phrases of captions; each is one token."""
    found = [wording for some in (*CORRUPTIONS.values(), *STYLES.values()) for wording in some]
    found += [
        "Show it",
        "Set it",
        "Add",
        "Add a",
        "Draw",
        "Draw a",
        "Remove",
        "Take away",
        "Remove the",
        "Take away the",
    ]
    found += [
        "Paint the",
        "Make the",
        "Make it",
        "Show",
        "Replace the",
        "Turn the",
        " with a",
        " into a",
        "Give the person",
    ]
    found += ["Show the person", "Paint the person", "Remove the glasses", "Change the hair to", "Paint the hair"]
    found += [
        "Make the hair",
        "Show the sign made of",
        "Make the sign of",
        "Paint the sign",
        "Make the sign",
        " made of",
    ]
    found += [" of", "Make it read", "Change the letters to", "Give it", "Take", " of image 2", " of image 3", " the"]
    found += [f" the {called}" for taken in TAKEN.values() for _, called in taken.values()]
    nouns = ("sun", "moon", "wood", "metal", "plaster", "clay", "glass", "cap", "beanie", "shirt", "jumper", "coat")
    found += [f" {noun}" for noun in nouns]
    return list(dict.fromkeys(found))


def corrupt(image: Image.Image, corruption: str, name: tuple[object, ...]) -> Image.Image:
    """A faded copy, or one that is damaged as in the pocket world."""
    if corruption != "faded":
        return edits.corrupt(image, corruption, name)
    pixels = np.asarray(image).astype(np.float32)
    return Image.fromarray((0.35 * pixels + 0.65 * (0.5 * pixels.mean(-1, keepdims=True) + 90)).astype(np.uint8))


def stylise(image: Image.Image, style: str) -> Image.Image:
    """A poster of four levels, or a style of the pocket world."""
    if style != "poster":
        return edits.stylise(image, style)
    levels = np.round(np.asarray(image).astype(np.float32) / 255 * 3) / 3
    return Image.fromarray((levels * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))


def edit_images(edit: Edit, name: tuple[object, ...]) -> list[Image.Image]:
    """Source, further references, and last the target."""
    source, target = render(edit.source), render(edit.target)
    return [
        corrupt(source, edit.corruption, name) if edit.corruption else source,
        *(render(each) for each in edit.references),
        stylise(target, edit.style) if edit.style else target,
    ]
