"""Many noisy targets behind one prefix are the stock class's forward."""

import pytest
import torch

from fewstep.pocket import build
from pocket_making import (
    shared_prefix,
)


@pytest.mark.parametrize("edit", [False, True])
def test_many_targets_behind_one_prefix_are_the_stock_forward(pipeline: build.QwenImage21Pipeline, edit: bool) -> None:
    model, batch, many, tokens, before, after = pipeline.transformer, 3, 2, 16, 4, 9
    torch.manual_seed(0)
    text, z, t = torch.randn(batch, before + after, 128), torch.randn(batch, many, tokens, 64), torch.rand(batch, many)
    valid = torch.ones(batch, before + after, dtype=torch.bool)
    valid[1, 10:] = False
    reference = torch.randn(batch, tokens, 64) if edit else None
    slots = 4 if edit else 0
    layout = shared_prefix.batch_layout(
        model, before if edit else before + after, 16 if edit else 0, after if edit else 0, tokens, many
    )
    with torch.no_grad():
        ours = shared_prefix.velocities(model, text, valid, reference, z, t, layout)
        hole = torch.zeros(batch, slots, 128)
        full = torch.cat([text[:, :before], hole, text[:, before:]], dim=1)
        mask = torch.cat([valid[:, :before], hole.new_ones(batch, slots).bool(), valid[:, before:]], dim=1)
        image = torch.zeros(batch, full.shape[1] + 4, dtype=torch.bool)
        image[:, before : before + slots] = True
        image[:, -4:] = True
        for n in range(many):
            joint = z[:, n] if reference is None else torch.cat([reference, z[:, n]], dim=1)
            stock = model(joint, full, t[:, n], [[(1, 4, 4)] * (2 if edit else 1)] * batch, image, mask).sample
            torch.testing.assert_close(ours[:, n], stock[:, -tokens:], rtol=1e-4, atol=1e-5)
