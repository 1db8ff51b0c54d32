"""Preservation: what an edit has to leave alone, the student leaves as the teacher does.

Shapes: B batch, N latent tokens, D latent channels. At the state z of the student's own step, at noise level t, student
and teacher imply the clean estimates x0 = z - t v and x0_real = z - t v_real; s is the source picture in the same
latent space, token by token.

A token lies outside the changed region where the teacher's estimate is the source:

    rms_D(x0_real - s) < UNCHANGED rms_ND(s)

This is known at training time with one evaluation of the teacher at a state that the student has reached. A whole
trajectory of the teacher would tell the region of its own picture, which another noise level and another layout need
not share, at dozens of forwards. At high noise the teacher's estimate is a mean over pictures, and blurred where they
differ; so there fewer tokens count as outside, never more.

Outside, the source decides the picture. All pictures that the teacher may make agree there, so its mean estimate is
also the sample that a few-step student has to reach, and a regression on it is no bias. Inside it would be one, so
inside the term has no value and no gradient. Where student and teacher agree it has neither anywhere.
"""

import torch
from torch import Tensor

UNCHANGED = 0.25  # of the source's root mean square, ours: a token that is nearer to the source is left alone


def outside_changed(x0_real_BND: Tensor, source_BND: Tensor) -> Tensor:
    """Which tokens the teacher leaves as they are in the source, bool, shape BN. Carries no gradient."""
    away_BN = (x0_real_BND - source_BND).square().mean(dim=2).sqrt()
    size_B = source_BND.square().mean(dim=(1, 2)).sqrt()
    return away_BN < UNCHANGED * size_B[:, None]


def preservation_loss(
    v_BND: Tensor, v_real_BND: Tensor, z_BND: Tensor, t_B: Tensor, source_BND: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The regression loss outside of the changed region.

    Args:
        v_BND: the student's velocity at (z, t), with gradient.
        v_real_BND: the teachers' there.
        source_BND: the clean latents of the picture that is edited.

    Returns:
        The loss, a scalar: a mean over all tokens, so that parts of a batch add up. And the share of tokens outside,
        under "outside".
    """
    # L = mean over b, n of m_bn |x0 - x0_real|^2 / D,  x0 - x0_real = t (v_real - v)    [ours]
    exact = torch.promote_types(v_BND.dtype, torch.float32)
    v_real, z, t = v_real_BND.detach().to(exact), z_BND.detach().to(exact), t_B.to(exact)[:, None, None]
    outside_BN = outside_changed(z - t * v_real, source_BND.detach().to(exact))
    drift_BND = (t * (v_real - v_BND.to(exact))).where(outside_BN[:, :, None], 0.0)
    return drift_BND.square().mean(), {"outside": outside_BN.to(exact).mean()}
