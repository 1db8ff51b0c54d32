"""Captions of the harder world: any part of a scene's attributes in one sentence, of 3 to about 60 words.

A caption is a chain of phrases. Which attributes it names is the caller's choice: what is left out is left to the
seed. Asides name nothing; they make a prompt long, as prompts of people are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fewstep.pocket.harder.attributes import CATEGORIES, COUNTS, NONE, article, attribute
from fewstep.pocket.harder.scenes import Scene

OPENINGS = {
    "landscape": ("A landscape", "A wide view", "Open country"),
    "portrait": ("A portrait", "A person", "Someone"),
    "text": ("A sign", "A signpost", "A street sign"),
    "still-life": ("A still life", "A quiet corner", "A kitchen scene"),
}
ASIDES = (
    ", painted with a soft brush",
    ", with calm and gentle colours",
    ", as in a book for children",
    ", made with patience and care",
    ", quiet and without any hurry",
    ", the kind of picture one keeps",
    ", with a little warmth in it",
    ", drawn from memory one evening",
)
READS = (" reading", " that reads")
END = "."
Named = frozenset[str]


def everything(it: Scene) -> Named:
    """All attributes of a scene, and its word."""
    return frozenset(each.name for each in CATEGORIES[it.category]) | {"word"}


def usual(it: Scene) -> Named:
    """What a full prompt names: all but light and pose."""
    return everything(it) - {each.name for each in CATEGORIES[it.category] if each.quiet}


def quoted_word(word: str) -> str:
    return f' "{word}"'


def phrase(it: Scene, name: str) -> str:
    return attribute(it.category, name).phrases[it[name]]


def plural(noun: str, count: str) -> str:
    return noun if count == "one" else f"{noun}s"


def counted(count: str, rest: str) -> str:
    """' one', ' red house' -> ' a red house'."""
    if count == "one":
        return f" {article(rest.strip())}"
    return f" {count}{rest}"


def uncounted(colour: str, noun: str) -> str:
    """' red', ' house' -> ' a red house or houses': right of one as of several, so it does not name the count. Its
    words are phrases of the world already, so no token of a teacher in training moves."""
    return f" {article((colour + noun).strip())} or{plural(noun, NONE)}"


def things(it: Scene, name: str, named: Named) -> str:
    """The things of a landscape or the fruit of a still life, with colour and count where these are named."""
    colour, noun = phrase(it, "colour") if "colour" in named else "", phrase(it, name)
    return counted(it["count"], colour + plural(noun, it["count"])) if "count" in named else uncounted(colour, noun)


def caption(it: Scene, rng: random.Random, named: Named, asides: int = 0) -> str:
    """One sentence that names these attributes. Order and wording vary with rng."""
    told = list(PARTS[it.category](it, rng, named))
    for name in ("light", "pose"):
        told += [phrase(it, name)] if name in named else []
    extra = rng.sample(ASIDES, asides)
    return "".join([rng.choice(OPENINGS[it.category]), *told, *extra, END])


def landscape_phrases(it: Scene, rng: random.Random, named: Named) -> Iterator[str]:
    around = [name for name in ("time", "ground", "hills", "body", "weather") if name in named]
    rng.shuffle(around)
    yield from (phrase(it, name) for name in around)
    if "thing" not in named:
        return
    yield " and"
    if it["thing"] == NONE:
        yield " nothing else"
        return
    yield things(it, "thing", named)
    if "place" in named:
        yield phrase(it, "place")


def hair(it: Scene, named: Named) -> Iterator[str]:
    joined = " and" if "skin" in named else " with"
    if "hair" in named:
        yield joined + (phrase(it, "style") if "style" in named else "") + phrase(it, "hair")
    elif "style" in named:
        yield f"{joined}{phrase(it, 'style')} hair"


def hat(it: Scene, named: Named) -> Iterator[str]:
    if "hat" not in named:
        return
    if it["hat"] == NONE:
        yield " without a hat"
    else:
        colour = phrase(it, "hat_colour") if "hat_colour" in named else ""
        yield f" under {article((colour + phrase(it, 'hat')).strip())}"


def portrait_phrases(it: Scene, rng: random.Random, named: Named) -> Iterator[str]:
    if "skin" in named:
        yield phrase(it, "skin")
    yield from hair(it, named)
    rest = [[phrase(it, name)] for name in ("mood", "glasses") if name in named]
    if "garment" in named:
        colour = phrase(it, "clothes") if "clothes" in named else ""
        rest.append([f" in {article((colour + phrase(it, 'garment')).strip())}"])
    rng.shuffle(rest)
    for some in rest:
        yield from some
    yield from hat(it, named)
    if "wall" in named:
        yield phrase(it, "wall")


def sign_phrases(it: Scene, rng: random.Random, named: Named) -> Iterator[str]:
    looks = [name for name in ("shape", "board", "material") if name in named]
    rng.shuffle(looks)
    yield from (phrase(it, name) for name in looks)
    if "ink" in named or "size" in named:
        size, ink = (phrase(it, name) if name in named else "" for name in ("size", "ink"))
        yield f" with{size}{ink} letters"
    if "word" in named:
        yield rng.choice(READS)
        yield quoted_word(it.word)
    if "wall" in named:
        yield phrase(it, "wall")


def still_life_phrases(it: Scene, rng: random.Random, named: Named) -> Iterator[str]:
    has_fruit, has_vessel = "fruit" in named, "vessel" in named
    if has_fruit:
        yield " with"
        yield things(it, "fruit", named)
    if has_vessel:
        paint, material = (phrase(it, name) if name in named else "" for name in ("paint", "material"))
        joined = phrase(it, "side") if has_fruit and "side" in named else " beside" if has_fruit else " with"
        yield f"{joined} {article((paint + material + phrase(it, 'vessel')).strip())}"
    for name in ("table", "wall"):
        if name in named:
            yield phrase(it, name)


PARTS = {
    "landscape": landscape_phrases,
    "portrait": portrait_phrases,
    "text": sign_phrases,
    "still-life": still_life_phrases,
}


def drawn_names(it: Scene, rng: random.Random) -> Named:
    """Which attributes a prompt of no given length names: all of them, most, or a few; a sign's word always."""
    share = rng.choice((1.0, 1.0, 0.7, 0.4))
    kept = {name for name in sorted(usual(it)) if rng.random() < share}  # a set's order differs by process
    kept |= {each.name for each in CATEGORIES[it.category] if each.quiet and rng.random() < 0.15}
    return frozenset(kept | {"word"})


def phrases() -> list[str]:
    """Every chain of words that is one token of its own."""
    found = [text for table in CATEGORIES.values() for each in table for text in each.phrases.values() if text]
    found += [opening for some in OPENINGS.values() for opening in some] + [*ASIDES, *READS, END]
    found += [
        " and",
        " nothing else",
        " some",  # said by captions no more; the tokens of a teacher in training stay where they are
        " or",
        " without a hat",
        " under",
        " letters",
        " with",
        " beside",
        " hair",
        " in",
        " a",
        " an",
    ]
    found += [f" {count}" for count in COUNTS]
    nouns = [*attribute("landscape", "thing").values, *attribute("still-life", "fruit").values]
    found += [f" {noun}s" for noun in nouns if noun != NONE] + [" lighthouses"]
    return list(dict.fromkeys(found))
