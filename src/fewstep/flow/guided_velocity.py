"""Classifier-free guidance applied to velocities.

Shapes: B batch, N latent tokens, D latent channels. With the kept norm, guidance is not linear in its inputs. So it is
applied to each teacher on its own, before the teachers are mixed.
"""

from torch import Tensor

from fewstep.flow.guidance import Guidance


def guided(v_cond_BND: Tensor, v_uncond_BND: Tensor, guidance: Guidance) -> Tensor:
    """The guided velocity, in the shape of its inputs.

    With `keep_norm` each token (a vector of D numbers) gets the length that it has in the conditional velocity.
    """
    # v = v_u + s (v_c - v_u)    [classifier-free guidance, arXiv 2207.12598, with s = 1 + w]
    v = v_uncond_BND + guidance.scale * (v_cond_BND - v_uncond_BND)
    if not guidance.keep_norm:
        return v
    # v |v_c| / |v|, token by token    [diffusers, QwenImagePipeline]
    return v * (v_cond_BND.norm(dim=-1, keepdim=True) / v.norm(dim=-1, keepdim=True).clamp_min(1e-12))
