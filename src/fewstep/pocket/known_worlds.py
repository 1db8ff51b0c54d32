"""The pocket worlds by the names that `--world` takes."""

from collections.abc import Mapping

from fewstep.pocket.harder.known_words import HARDER_WORDS
from fewstep.pocket.known_words import POCKET_WORDS
from fewstep.pocket.known_world import KnownWorld

WORLDS: Mapping[str, KnownWorld] = {"pocket": POCKET_WORDS, "harder": HARDER_WORDS}
