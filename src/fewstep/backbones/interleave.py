"""The positions of image slots in the sequence of the text encoder.

A Qwen3-VL sequence holds one slot for each 2 x 2 group of a reference's latent tokens. The transformer replaces the
embeddings at slots by the latents themselves. So only text positions are stored, and the layout says where the slots
were.

Shapes: S positions, both text and slots.
"""

from collections.abc import Sequence

from torch import Tensor

from fewstep.backbones.layout import TokenGrid

TOKENS_PER_SLOT = 4  # latent tokens of an image slot


def slot_count(grid: TokenGrid) -> int:
    """The number of image slots of a picture of rows x columns latent tokens. Both must be even."""
    rows, columns = grid
    assert rows % 2 == columns % 2 == 0, grid
    return rows * columns // TOKENS_PER_SLOT


def slot_positions(is_slot_S: Tensor, references: Sequence[TokenGrid]) -> tuple[int, ...]:
    """For each reference, the number of text positions before its slots."""
    indices = is_slot_S.nonzero().flatten().tolist()
    assert len(indices) == sum(map(slot_count, references))
    firsts, seen = [], 0
    for grid in references:
        firsts.append(indices[seen] - seen)
        seen += slot_count(grid)
    return tuple(firsts)
