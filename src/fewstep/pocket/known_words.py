"""What may be asked of the pocket world, and which words of a prompt it does not know.

A large model draws something of any prompt. The pocket teacher has seen the phrases of `captions.py` and nothing else:
any other text is spelled in bytes that it never learnt, and what it draws then means nothing. So that is told.
"""

import re
from functools import cache

from tokenizers import Tokenizer

from fewstep.backbones.conditioning_estimate import local_file
from fewstep.pocket import captions
from fewstep.pocket.vocabulary import SPACE, byte_pair_tokenizer, merges, spelled, vocabulary
from fewstep.pocket.world import GLYPHS, MOODS, OBJECT_COLOURS
from fewstep.pocket.world_words import TOKENIZER, tokenizer_words

LONGEST_WORD = 3  # letters on a sign
SHOWN = 6  # words that a message names
EXAMPLE = "A landscape under a sun over grass by day with no mountains and a red house on the left."
EDIT_EXAMPLE = "Give the person blond hair."
_WORD = re.compile(r"\S+")
_LETTERS = re.compile(rf'"[{GLYPHS}]{{1,{LONGEST_WORD}}}"')


def draws_pocket_world(model: str) -> bool:
    """Whether a model (a folder, a hub id, "pocket") reads the words of this world: its teacher, or a student of it.
    Nothing is downloaded for it: of a hub id that is not on this machine the answer is no."""
    words = local_file(model, TOKENIZER)
    return words is not None and tokenizer_words(words.parents[1]) == vocabulary()


def unknown_words(prompt: str) -> tuple[str, ...]:
    """The words of a prompt that stand in no phrase of this world, each once, in their order. A phrase counts as it is
    written, its capital included: " a red house" is one, "A Red House" is none."""
    text = _LETTERS.sub(lambda found: " " * len(found[0]), prompt)
    known, strange = _known_tokens(), set()
    encoded = _tokenizer().encode(text)
    for token, (begin, end) in zip(encoded.tokens, encoded.offsets, strict=True):
        if token not in known:
            strange |= set(range(begin, end))
    words = [match[0] for match in _WORD.finditer(text) if strange & set(range(*match.span()))]
    return tuple(dict.fromkeys(words))


def say_unknown(prompt: str, edit: bool) -> str | None:
    """What a user is told of a prompt that this world cannot read whole; None if it can."""
    words = unknown_words(prompt)
    if not words:
        return None
    named = ", ".join(f"'{word}'" for word in words[:SHOWN]) + (" and more" if len(words) > SHOWN else "")
    return (
        f"'{prompt:.80}': the pocket world does not know {named}, and what it draws of that means nothing. It knows "
        f"landscapes, portraits, signs of 1 to {LONGEST_WORD} letters, and edits of them, in phrases like those of "
        f"'{EDIT_EXAMPLE if edit else EXAMPLE}', capitals included; `fewstep pocket phrases` lists them"
    )


def phrase_book() -> str:
    """Everything that may be asked, a line for each part of a prompt."""
    return "\n".join(f"{part}: {' | '.join(phrase.strip() for phrase in some)}" for part, some in _parts())


def _parts() -> list[tuple[str, list[str]]]:
    c, tables = captions, {name: list(some) for name, some in captions.OPENINGS.items()}
    things = [c.thing(kind, colour) for kind, colours in OBJECT_COLOURS.items() for colour in colours]
    glyphs = [f"reading or that reads, then 1 to {LONGEST_WORD} of the letters {GLYPHS} in quotation marks"]
    scene = [
        ("A landscape begins", tables["landscape"]),
        ("sky, light and ground", [*c.SKY.values(), *c.BODY.values(), *c.GROUND.values()]),
        ("behind", [*c.MOUNTAINS.values()]),
        ("and something", things),
        ("where", [*c.PLACE.values()]),
        ("A portrait begins", tables["portrait"]),
        ("skin", [*c.SKIN.values()]),
        ("hair, in two words", [*c.LENGTH.values(), *c.HAIR.values()]),
        ("face", [*c.MOOD.values(), *c.GLASSES.values()]),
        ("shirt and wall", [*c.SHIRT.values(), *c.WALL.values()]),
        ("A sign begins", tables["text"]),
        ("looks", [*c.SHAPE.values(), *c.BOARD.values(), *c.INK.values()]),
        ("letters", glyphs),
    ]
    changed = {"sky": "night", "ground": "snow", "wall": "teal", "hair": "blond", "length": "long", "mood": MOODS[0]}
    changed |= {"shirt": "green", "board": "red", "letters": "TEA"}
    edits = [wording for what, value in changed.items() for wording in c.REPLACE[what](value)]
    edits += [*c.GLASSES_EDIT["yes"], *c.GLASSES_EDIT["no"], *c.add_thing("boat", "white", "middle")]
    edits += [*c.remove_thing("tree"), *c.repaint_thing("house", "blue"), *c.swap_body("sun", "moon")]
    styles = [wording for some in (*c.STYLE_EDIT.values(), *c.RESTORE.values()) for wording in some]
    return [*scene, ("Edits, with any other value of the same part", edits), ("Edits of all of it", styles)]


@cache
def _tokenizer() -> Tokenizer:
    return byte_pair_tokenizer(vocabulary(), merges())


@cache
def _known_tokens() -> frozenset[str]:
    return frozenset({SPACE, *map(spelled, captions.phrases())})
