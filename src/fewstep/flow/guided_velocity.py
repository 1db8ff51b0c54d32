"""Classifier-free guidance applied to velocities.

Shapes: B batch, N latent tokens, D latent channels. Guidance (with the kept norm above all) is not linear in its
inputs, so it is applied per teacher, before teachers are mixed.
"""

from torch import Tensor

from fewstep.flow.guidance import Guidance


def guided(v_cond_BND: Tensor, v_uncond_BND: Tensor, guidance: Guidance) -> Tensor:
    """v_u + s (v_c - v_u), with the conditional velocity's length per token if `keep_norm`."""
    v = v_uncond_BND + guidance.scale * (v_cond_BND - v_uncond_BND)
    if not guidance.keep_norm:
        return v
    return v * (v_cond_BND.norm(dim=-1, keepdim=True) / v.norm(dim=-1, keepdim=True).clamp_min(1e-12))
