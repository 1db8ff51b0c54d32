"""The harder world's tokens: each phrase of captions and instructions is one, and so is each quoted letter."""

from __future__ import annotations

from fewstep.pocket import vocabulary as written
from pocket_making.harder.attributes import GLYPHS
from pocket_making.harder.captions import phrases
from pocket_making.harder.edits import instruction_phrases

WORLD = "harder"
PHRASES = (*phrases(), *instruction_phrases())


def merges() -> list[tuple[str, str]]:
    return written.merges(PHRASES, GLYPHS)


def vocabulary() -> dict[str, int]:
    return written.vocabulary(PHRASES, GLYPHS)
