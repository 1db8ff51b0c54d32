"""What may be asked of the harder world."""

from __future__ import annotations

from fewstep.pocket.harder.attributes import CATEGORIES, CATEGORY_NAMES, GLYPHS, LONGEST_WORD
from fewstep.pocket.harder.captions import ASIDES, OPENINGS
from fewstep.pocket.harder.case_source import SEED, training_case_of_harder
from fewstep.pocket.harder.cases import EDIT_KINDS, TAKING, prompt_case
from fewstep.pocket.harder.scenes import PIXELS
from fewstep.pocket.harder.vocabulary import PHRASES, tokenizer, vocabulary
from fewstep.pocket.known_world import KnownWorld, Parts
from fewstep.pocket.vocabulary import SPACE, spelled

EDITS_SHOWN = 6  # of each kind
# What is a token only where instructions chain phrases ("Show" and " the sign"); a test draws many and finds these.
CHAINED = (
    *(" a moon", " a sun", " blond", " brown", " glasses", " into", " of metal"),
    *(" of plaster", " of wood", " person", " read", " sign", " the sign"),
)
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
        found.append(
            (f"Of {name}, whole prompts", [prompt_case(SEED, 3 * k, category, "train").prompt for k in (0, 1)])
        )
    letters = f"reading or that reads, then 1 to {LONGEST_WORD} of {GLYPHS} in quotation marks"
    return [*found, ("Letters of a sign", [letters]), ("Asides", list(ASIDES)), *edits_by_kind()]


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
