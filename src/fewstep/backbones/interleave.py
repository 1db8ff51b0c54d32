"""Text positions alone, and the sequence in which image slots stand among them.

A Qwen3-VL sequence holds one slot for each 2 x 2 group of a reference's latent tokens. The transformer overwrites what
stands there with the latents themselves, so only text is worth keeping; the layout says where the slots were.

Shapes: L text positions, S positions with slots (L + slots), T those with the target's slots appended, C text channels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from fewstep.conditioning import Conditioning, Grid, Layout

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


def with_slots(x_BL: Tensor, layout: Layout, fill: float) -> Tensor:
    """`x` (B, L, ...) with `fill` at the image slots: (B, S, ...)."""
    assert len(layout.slots) == len(layout.references), "a layout with references says where their slots are"
    cuts = [0, *layout.slots, x_BL.shape[1]]
    pieces = [x_BL[:, cuts[0] : cuts[1]]]
    for grid, (start, end) in zip(layout.references, pairwise(cuts[1:]), strict=True):
        pieces += [x_BL.new_full((x_BL.shape[0], slots_of(grid), *x_BL.shape[2:]), fill), x_BL[:, start:end]]
    return torch.cat(pieces, dim=1)


def sequence_of(cond: Conditioning, target: Grid) -> tuple[Tensor, Tensor | None, Tensor]:
    """What the stock forward takes: embeddings (B, S, C), their mask (B, S) or None where nothing is padded, and the
    marks (B, T) of image slots, the target's included."""
    embeds_BSC = with_slots(cond.text_BLC, cond.layout, 0.0)
    mask_BS = None if bool(cond.mask_BL.all()) else with_slots(cond.mask_BL, cond.layout, True)
    slots_BS = with_slots(torch.zeros_like(cond.mask_BL), cond.layout, True)
    return embeds_BSC, mask_BS, torch.cat([slots_BS, slots_BS.new_ones(len(cond), slots_of(target))], dim=1)
