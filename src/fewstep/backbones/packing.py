"""Latents as a picture's grid and as tokens.

Shapes: B batch, C channels of the VAE, H rows and W columns of latents; N tokens of `patch` x `patch` latents, D = C
patch^2.
"""

from torch import Tensor

from fewstep.backbones.layout import TokenGrid


def packed(latents_BCHW: Tensor, patch: int) -> Tensor:
    """The tokens (BND), row by row. A token holds the first channel's patch, then the second one's, and so on, as
    the stock pipelines' `_pack_latents` has them."""
    x = latents_BCHW.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens_BND: Tensor, target: TokenGrid, patch: int) -> Tensor:
    """The latents (BCHW) of tokens. target: rows and columns of tokens."""
    x = tokens_BND.unflatten(2, (-1, patch, patch)).unflatten(1, target)
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
