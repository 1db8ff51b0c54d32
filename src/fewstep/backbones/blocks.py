"""The repeated blocks of a transformer. Sharding, compilation and int8 weights work block by block."""

from torch import nn


def blocks(transformer: nn.Module) -> list[nn.Module]:
    """All modules in the transformer's own ModuleLists, in order."""
    return [block for child in transformer.children() if isinstance(child, nn.ModuleList) for block in child]
