"""What a transformer repeats. Weights are split, compiled and held in bytes block by block."""

from torch import nn


def blocks(transformer: nn.Module) -> list[nn.Module]:
    """The members of the lists that it is made of."""
    return [block for child in transformer.children() if isinstance(child, nn.ModuleList) for block in child]
