"""What may be asked of the pocket world."""

from functools import cache

from tokenizers import Tokenizer

from fewstep.pocket import captions
from fewstep.pocket.known_world import KnownWorld, Parts
from fewstep.pocket.render import SIZE
from fewstep.pocket.vocabulary import SPACE, byte_pair_tokenizer, merges, spelled, vocabulary
from fewstep.pocket.world import GLYPHS, MOODS, OBJECT_COLOURS

LONGEST_WORD = 3  # letters on a sign


def _parts() -> Parts:
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


POCKET_WORDS = KnownWorld(
    name="the pocket world",
    knows=f"landscapes, portraits, signs of 1 to {LONGEST_WORD} letters, and edits of them",
    vocabulary=vocabulary,
    tokenizer=_tokenizer,
    known_tokens=lambda: frozenset({SPACE, *map(spelled, captions.phrases())}),
    glyphs="".join(GLYPHS),
    longest=LONGEST_WORD,
    example="A landscape under a sun over grass by day with no mountains and a red house on the left.",
    edit_example="Give the person blond hair.",
    parts=_parts,
    command="fewstep pocket phrases --world pocket",
    sizes=((SIZE, SIZE),),
    most_pictures=1,
)
