"""How far a specialised teacher is ahead of the student, measured from the base at the same z and t.

Shapes: R samples, N latent tokens, D latent channels. Let d = v_specialised - v_base be what the specialised teacher
asks for, and e = v_fake - v_base what the student has followed so far. With the weight lambda, the gradient of
distribution matching points along

    v_real - v_fake = lambda d - e

The specialised teacher pulls away from the base by lambda d. The base pulls back by e, the distance that the student
has already moved away from it.

If all distributions are Gaussians of equal spread, the two cancel at the optimum for every z and t: e = lambda d. Then
the cosine is 1, the pull is 1 and the ratio is 1 / lambda. So the pull is what is asked for over what was followed,
whatever lambda is: about 1 where the student keeps up, above 1 where the teacher is ahead of it. The ratio does not
measure that, because lowering lambda would raise it.
"""

import torch
from torch import Tensor


def mismatch(v_m_RND: Tensor, v_base_RND: Tensor, v_fake_RND: Tensor, lam_R: Tensor) -> dict[str, Tensor]:
    """cosine, ratio and pull of one specialised teacher, as scalars. Lengths of zero count as 1e-12.

    The sums run over all samples before the quotient is taken. A mean of quotients would be decided by the one sample
    that is still near the base (e about 0).

    Args:
        lam_R: the weight that the teacher has on each sample.
    """
    # cosine = <d, e> / (|d| |e|), ratio = |d| / |e|, pull = |lambda d| / |e|    [ours]
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
