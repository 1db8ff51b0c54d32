"""Classifier-free guidance applied to velocities.

Shapes: B batch, N latent tokens, D latent channels. With the kept norm, guidance is not linear in its inputs. So it is
applied to each teacher on its own, before the teachers are mixed.
"""

import torch
from torch import Tensor

from fewstep.flow.guidance import Guidance


def guided(v_cond_BND: Tensor, v_uncond_BND: Tensor, guidance: Guidance) -> Tensor:
    """The guided velocity, in the shape of its inputs.

    With `keep_norm` each token (a vector of D numbers) gets the length that it has in the conditional velocity; with
    "at-most" only where it is longer; with "picture-at-most" the N x D numbers of a picture are one vector.
    """
    # v = v_u + s (v_c - v_u)    [classifier-free guidance, arXiv 2207.12598, with s = 1 + w]
    v = v_uncond_BND + guidance.scale * (v_cond_BND - v_uncond_BND)
    if not guidance.keep_norm:
        return v
    axes = (-2, -1) if guidance.keep_norm == "picture-at-most" else (-1,)
    length = torch.linalg.vector_norm(v, dim=axes, keepdim=True)
    # v |v_c| / |v|, token by token    [diffusers, QwenImagePipeline]
    ratio = torch.linalg.vector_norm(v_cond_BND, dim=axes, keepdim=True) / length.clamp_min(1e-12)
    # v min(1, |v_c| / |v|)    [diffusers, LongCatImagePipeline by token, ZImagePipeline by picture]
    return v * (ratio if guidance.keep_norm is True else ratio.clamp(max=1))
