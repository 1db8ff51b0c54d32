"""What the text encoder says of a quoted letter: which glyph it is, which letter of its word, and whether the last.

Embeddings of this encoder are random, and a language model's are not: its hidden states of an A say "A" wherever it
stands. Random vectors for 40 glyphs at six places, closing a word or not, would be some four hundred things to learn.
As a sum of three they are 48 (docs/harder-world.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep.pocket.harder.attributes import GLYPHS, LONGEST_WORD
from fewstep.pocket.harder.vocabulary import MARKS, vocabulary
from fewstep.pocket.vocabulary import SPACE, spelled

SEED = 18
GLYPH, PLACE, LAST = 0.7, 0.6, 0.4  # ours; their squares sum to about 1, the variance of other tokens
BEFORE = {1: f'{SPACE}"', **{place: spelled(mark) for place, mark in MARKS.items()}}


def letter_tokens() -> dict[str, tuple[str, int, bool]]:
    """Token -> (glyph, which letter of its word from 1 on, whether the last)."""
    return {
        before + glyph + ('"' if last else ""): (glyph, place, last)
        for place, before in BEFORE.items()
        for glyph in GLYPHS
        for last in (False, True)
    }


def letter_rows(width: int) -> dict[str, Tensor]:
    """Token -> embedding (width,), the sum of what it says."""
    generator = torch.Generator().manual_seed(SEED)
    glyphs, places, lasts = (torch.randn(many, width, generator=generator) for many in (len(GLYPHS), LONGEST_WORD, 2))
    return {
        token: GLYPH * glyphs[GLYPHS.index(glyph)] + PLACE * places[place - 1] + LAST * lasts[int(last)]
        for token, (glyph, place, last) in letter_tokens().items()
    }


@torch.no_grad()
def set_letter_embeddings(text_encoder: Any) -> None:
    """In place; all other tokens keep theirs."""
    table: nn.Embedding = text_encoder.get_input_embeddings()
    ids = vocabulary()
    for token, row in letter_rows(table.weight.shape[1]).items():
        table.weight[ids[token]] = row
