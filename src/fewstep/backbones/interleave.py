"""Where image slots stand in the sequence of the text encoder.

A Qwen3-VL sequence holds one slot for each 2 x 2 group of a reference's latent tokens. The transformer overwrites what
stands there with the latents themselves, so only text is worth keeping; the layout says where the slots were.

Shapes: S positions, text and slots.
"""

from collections.abc import Sequence

from torch import Tensor

from fewstep.conditioning import Grid

SLOT = 4  # latent tokens of an image slot


def slots_of(grid: Grid) -> int:
    """Image slots that a picture of rows x columns latent tokens takes; both are even."""
    rows, columns = grid
    assert rows % 2 == columns % 2 == 0, grid
    return rows * columns // SLOT


def slot_positions(is_slot_S: Tensor, references: Sequence[Grid]) -> tuple[int, ...]:
    """For each reference, the number of text positions before its slots."""
    indices = is_slot_S.nonzero().flatten().tolist()
    assert len(indices) == sum(map(slots_of, references))
    firsts, seen = [], 0
    for grid in references:
        firsts.append(indices[seen] - seen)
        seen += slots_of(grid)
    return tuple(firsts)
