"""What a specialised teacher asks for, against what the student has followed: seen from the base, at the same z and t.

Shapes: R samples, N latent tokens, D latent channels. With d = v_specialised - v_base, e = v_fake - v_base and the
weight lambda, the gradient of distribution matching is along v_real - v_fake = lambda d - e: the specialised teacher
pulls away from the base by lambda d, the base pulls back by e, as far as the student has left it.

On Gaussian worlds of equal spread the two cancel at the optimum at every z and t: e = lambda d, hence cosine 1,
pull 1 and ratio 1 / lambda. So the pull is asked over followed, whatever lambda is: about 1 where the student keeps up,
above 1 where the teacher is ahead of it. The ratio is no such measure: lowering lambda would raise it.
"""

import torch
from torch import Tensor


def mismatch(v_m_RND: Tensor, v_base_RND: Tensor, v_fake_RND: Tensor, lam_R: Tensor) -> dict[str, Tensor]:
    """cosine = <d, e> / |d| |e|, ratio = |d| / |e|, pull = |lambda d| / |e|; sums run over all samples, so one that is
    near the base (e about 0) does not decide alone. Zero lengths count as 1e-12."""
    d, e = ((v - v_base_RND).float().flatten(1) for v in (v_m_RND, v_fake_RND))
    asked, followed = d.square().sum(dim=1), e.square().sum(dim=1)
    size, left = _root(asked.sum()), _root(followed.sum())
    return {
        "cosine": (d * e).sum() / (size * left),
        "ratio": size / left,
        "pull": _root((lam_R.square() * asked).sum()) / left,
    }


def _root(square: Tensor) -> Tensor:
    return torch.sqrt(square).clamp_min(1e-12)
