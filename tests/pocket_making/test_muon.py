"""Muon takes nearly orthogonal directions."""

import pytest
import torch

from pocket_making.muon import orthogonalised


@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 48, 16), (2, 16, 48)])
def test_muon_directions_are_nearly_orthogonal(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)).float())
    assert values.min() > 0.4
    assert values.max() < 1.4
