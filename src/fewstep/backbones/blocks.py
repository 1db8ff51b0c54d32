"""The repeated blocks of a transformer. Sharding, compilation and rounded weights work block by block."""

from torch import nn


def blocks(transformer: nn.Module) -> list[nn.Module]:
    """All modules in the transformer's own ModuleLists, and in those of its ModuleDicts, in order."""
    return [block for child in transformer.children() for held in _lists(child) for block in held]


def _lists(child: nn.Module) -> list[nn.ModuleList]:
    held = child.values() if isinstance(child, nn.ModuleDict) else (child,)
    return [each for each in held if isinstance(each, nn.ModuleList)]
