"""The harder world's tokens: each phrase of captions and instructions is one, and so is each quoted letter.

A letter's token shows which letter of its word it is, as a language model's hidden state does. Letters alone cannot:
this text encoder has next to no context, and a word of six letters has four that are neither first nor last. So a
normalizer marks the second to the sixth letter of a quoted word, and mark and letter are one token. Marks are
characters for private use, which nobody types.
"""

from __future__ import annotations

import re
from functools import cache

from tokenizers import Regex, Tokenizer
from tokenizers.normalizers import Normalizer, Replace, Sequence

from fewstep.pocket import vocabulary as written
from fewstep.pocket.harder.attributes import GLYPHS, LONGEST_WORD
from fewstep.pocket.harder.captions import phrases
from fewstep.pocket.harder.edits import instruction_phrases

WORLD = "harder"
PHRASES = (*phrases(), *instruction_phrases())
MARKS = {place: chr(0xE000 + place) for place in range(2, LONGEST_WORD + 1)}  # of the second letter, the third ...


def letter_marks() -> Normalizer:
    """Puts its mark before each letter of a quoted word but the first; the last letter's comes first, so that none
    stands between a letter and the quote it is counted from."""
    glyph = f"[{re.escape(GLYPHS)}]"
    return Sequence(
        [Replace(Regex(f'(?<= "{glyph}{{{place - 1}}})(?={glyph})'), MARKS[place]) for place in reversed(MARKS)]
    )


def marked_letters() -> list[tuple[str, str]]:
    """The merges of mark and letter, and of these and a closing quote."""
    marks = [written.spelled(mark) for mark in MARKS.values()]
    found = [(mark[:i], mark[i]) for mark in marks for i in range(1, len(mark))]
    found += [(mark, glyph) for mark in marks for glyph in GLYPHS]
    return found + [(mark + glyph, '"') for mark in marks for glyph in GLYPHS]


def merges() -> list[tuple[str, str]]:
    """Marked letters come first: a letter must not take the closing quote before its mark."""
    return [*marked_letters(), *written.merges(PHRASES, GLYPHS)]


def vocabulary() -> dict[str, int]:
    """Token -> id. Marked letters have the last ids: they came when a teacher was already in training."""
    names = [*written.vocabulary(PHRASES, GLYPHS), *(a + b for a, b in marked_letters())]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def words() -> written.Words:
    return written.Words(vocabulary(), merges(), letter_marks())


@cache
def tokenizer() -> Tokenizer:
    known = words()
    return written.byte_pair_tokenizer(known.ids, known.merges, known.normalizer)
