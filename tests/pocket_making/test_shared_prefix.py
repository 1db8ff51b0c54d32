"""Many noisy targets behind one prefix are the stock class's forward."""

import pytest
import torch

from fewstep.pocket import build
from pocket_making import (
    shared_prefix,
)


@pytest.mark.parametrize("grid", [(4, 4), (6, 4)])
@pytest.mark.parametrize("texts", [[13], [4, 9], [4, 2, 7], [4, 3, 1, 5]])
def test_many_targets_behind_one_prefix_are_the_stock_forward(
    pipeline: build.QwenImage21Pipeline, texts: list[int], grid: shared_prefix.Grid
) -> None:
    model, batch, many, tokens, references = pipeline.transformer, 3, 2, grid[0] * grid[1], len(texts) - 1
    torch.manual_seed(0)
    text, z, t = torch.randn(batch, 13, 128), torch.randn(batch, many, tokens, 64), torch.rand(batch, many)
    valid = torch.ones(batch, 13, dtype=torch.bool)
    valid[1, 12 - texts[-1] // 2 :] = False
    pictures = torch.randn(batch, references * tokens, 64) if references else None
    slot = tokens // 4  # the stock class is told one position for four tokens
    with torch.no_grad():
        layout = shared_prefix.batch_layout(model, texts, grid, many)
        ours = shared_prefix.velocities(model, text, valid, pictures, z, t, layout)
        full, mask, image = with_slots(text, valid, texts, slot)
        for n in range(many):
            joint = z[:, n] if pictures is None else torch.cat([pictures, z[:, n]], dim=1)
            stock = model(joint, full, t[:, n], [[(1, *grid)] * (references + 1)] * batch, image, mask).sample
            torch.testing.assert_close(ours[:, n], stock[:, -tokens:], rtol=1e-4, atol=1e-5)


def with_slots(
    text: torch.Tensor, valid: torch.Tensor, texts: list[int], slot: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The text with empty slots where references stand, what of it is valid, and where images are, target included."""
    hole, held = text.new_zeros(len(text), slot, text.shape[-1]), valid.new_ones(len(text), slot)
    parts, masks, image = [], [], []
    for k, (words, known) in enumerate(zip(text.split(texts, 1), valid.split(texts, 1), strict=True)):
        parts, masks, image = [*parts, words], [*masks, known], [*image, torch.zeros_like(known)]
        if k < len(texts) - 1:
            parts, masks, image = [*parts, hole], [*masks, held], [*image, held]
    return torch.cat(parts, 1), torch.cat(masks, 1), torch.cat([*image, held], 1)
