"""What may be asked of the harder world."""

from __future__ import annotations

from fewstep.pocket.harder.attributes import (
    CATEGORIES,
    CATEGORY_NAMES,
    FRUIT_COLOURS,
    GLYPHS,
    INKS_ON,
    LONGEST_WORD,
    NONE,
    THING_COLOURS,
    attribute,
)
from fewstep.pocket.harder.captions import ASIDES, OPENINGS
from fewstep.pocket.harder.case_source import SEED, training_case_of_harder
from fewstep.pocket.harder.cases import EDIT_KINDS, TAKING, prompt_case
from fewstep.pocket.harder.scenes import HATS_OVER, LARGE_ROOM, PIXELS
from fewstep.pocket.harder.vocabulary import PHRASES, tokenizer, vocabulary
from fewstep.pocket.known_world import KnownWorld, Parts
from fewstep.pocket.vocabulary import SPACE, spelled

EDITS_SHOWN = 6  # of each kind
# What is a token only where instructions chain phrases ("Show" and " the sign"); a test draws many and finds these.
CHAINED = (
    *(" a moon", " a sun", " blond", " brown", " glasses", " into", " of metal"),
    *(" of plaster", " of wood", " person", " read", " sign", " the sign"),
)
# How captions chain the parts of a prompt that names everything; a test holds them against captions.
CHAINS = {
    "landscape": (
        "[the beginning] [time] [ground] [hills] [body] [weather] and [count] [colour] [thing] [place] [light] [pose]"
    ),
    "portrait": (
        "[the beginning] [skin] and [style] [hair] [mood] [glasses] in a [clothes] [garment] "
        "under a [hat colour] [hat] [wall] [light] [pose]"
    ),
    "text": (
        '[the beginning] [shape] [board] [material] with [size] [ink] letters reading "[letters]" [wall] [light] [pose]'
    ),
    "still-life": (
        "[the beginning] with [count] [colour] [fruit] [side] a [paint] [material] [vessel] "
        "[table] [wall] [light] [pose]"
    ),
}
# Where a prompt leaves something out, or has none of it, the chain is another. A test holds each against captions.
LOOSE = {
    "landscape": (
        "time to weather in any order",
        "one is said a: and a red house; two and three with an s",
        "without a count: and a red house or houses",
        "with no thing: and nothing else",
    ),
    "portrait": (
        "mood, glasses and garment in any order",
        "without skin: with short brown hair",
        "without the colour of hair: and short hair",
        "without a hat in place of under a ... hat",
    ),
    "text": (
        "shape to material in any order",
        "without size and ink no letters are named either: made of wood reading ...",
    ),
    "still-life": (
        "one is said a: with a red apple; two and three with an s",
        "without a count: with a red apple or apples",
        "without a side: beside a blue cup",
        "without fruit: with a blue cup",
    ),
}
TOLD = {
    "scene": "Edits of the scene",
    "perceptual": "Repairs",
    "object": "Edits of a thing",
    "text": "Edits of the letters",
    "identity": "Edits of a person",
    "style": "Edits of the style",
    "two-pictures": "Edits that take something from a second picture",
    "three-pictures": "Edits that take something from two more pictures",
}


def parts_of_a_prompt() -> Parts:
    """Openings and attributes of each category, letters, asides, and some edits of each kind."""
    found: Parts = []
    for category, table in CATEGORIES.items():
        name = CATEGORY_NAMES[category]
        found.append((f"Of {name}, the beginning", list(OPENINGS[category])))
        for each in table:
            phrases = list(dict.fromkeys(phrase for phrase in each.phrases.values() if phrase.strip()))
            found.append((f"Of {name}, {each.name.replace('_', ' ')}", phrases))
    for category, name in CATEGORY_NAMES.items():
        found.append((f"Of {name}, in this order", [f"{CHAINS[category]} ({'; '.join(LOOSE[category])})"]))
    for category, name in CATEGORY_NAMES.items():
        found.append(
            (f"Of {name}, whole prompts", [prompt_case(SEED, 3 * k, category, "train").prompt for k in (0, 1)])
        )
    letters = f"reading or that reads, then 1 to {LONGEST_WORD} of {GLYPHS} in quotation marks"
    return [*found, ("Letters of a sign", [letters]), *only_together(), ("Asides", list(ASIDES)), *edits_by_kind()]


def only_together() -> Parts:
    """Values that this world draws with some of another attribute's alone: other pairs were never seen. A test draws
    scenes and finds no others."""

    def said(category: str, of: str, goes: str, pairs: dict[str, tuple[str, ...]]) -> list[str]:
        left, right = attribute(category, of).phrases, attribute(category, goes).phrases
        return [
            f"{left[one].strip()} ({', '.join(right[other].strip() for other in others)})"
            for one, others in pairs.items()
            if one != NONE
        ]

    large = f"large letters (words of up to {LARGE_ROOM})"
    return [
        ("Of landscapes, things and their colours", said("landscape", "thing", "colour", THING_COLOURS)),
        (
            "Of landscapes, where things are",
            ["over the sea only boats, or nothing else", "boats over the sea alone", "a place only of one thing"],
        ),
        ("Of portraits, hair and what is over it", said("portrait", "style", "hat", HATS_OVER)),
        ("Of signs, boards and their letters", [*said("text", "board", "ink", INKS_ON), large]),
        ("Of still lives, fruit and their colours", said("still-life", "fruit", "colour", FRUIT_COLOURS)),
    ]


def edits_by_kind() -> Parts:
    """The first different edits of each kind that students are trained on."""
    asked: dict[str, dict[str, None]] = {kind: {} for kind in EDIT_KINDS}
    for index in range(3 * EDITS_SHOWN * len(EDIT_KINDS)):
        case = training_case_of_harder("edit", index)
        asked[case.category].setdefault(case.prompt)
    return [(TOLD[kind], list(some)[:EDITS_SHOWN]) for kind, some in asked.items()]


def tokens_of_the_world() -> frozenset[str]:
    return frozenset({SPACE, *map(spelled, (*PHRASES, *CHAINED))})


HARDER_WORDS = KnownWorld(
    name="the harder world",
    knows=f"landscapes, portraits, signs of 1 to {LONGEST_WORD} letters, still lives, and edits of them",
    vocabulary=vocabulary,
    tokenizer=tokenizer,
    known_tokens=tokens_of_the_world,
    glyphs=GLYPHS,
    longest=LONGEST_WORD,
    example="A portrait with dark skin and long red hair smiling in a yellow shirt before a teal wall.",
    edit_example="Give the person blond hair.",
    parts=parts_of_a_prompt,
    command="fewstep pocket phrases",
    sizes=PIXELS,
    most_pictures=1 + max(TAKING.values()),
)
