"""p(t): the noise levels at which teacher and critic are compared, and at which the critic learns."""

import torch
from torch import Tensor

from fewstep.objective.plan import ObjectivePlan
from fewstep.runtime.shift_key import TEACHER


def times(u_B: Tensor, plan: ObjectivePlan, teacher_shift: float = 1.0) -> Tensor:
    """t_B in (0, 1), float32, for u_B uniform on [0, 1). Each sample uses one uniform value, whatever the distribution.

    uniform: t is uniform on [low, high]. logit-normal: logit(t) is standard normal, cut to [low, high].
    The shift a follows in both cases. With it, most times lie where the sampler spends its steps at that resolution.

    teacher_shift: a, where the plan's time_shift is "teacher": `Backbone.sampling_shift` of the batch's layout.
    """
    # p(t) is DMD's t ~ U(0.02, 0.98) (arXiv 2311.18828), or SD3's logit-normal (arXiv 2403.03206, sec. 3.1)
    u = u_B.double()
    if plan.time_distribution == "uniform":
        t = plan.time_low + (plan.time_high - plan.time_low) * u
    else:
        bounds = torch.tensor([plan.time_low, plan.time_high], dtype=u.dtype, device=u.device)
        low, high = torch.special.ndtr(torch.logit(bounds))
        t = torch.sigmoid(torch.special.ndtri(low + (high - low) * u))
    # t' = a t / (1 + (a - 1) t)    [timestep shift of SD3, arXiv 2403.03206, eq. 23]
    a = teacher_shift if plan.time_shift == TEACHER else plan.time_shift
    return (a * t / (1 + (a - 1) * t)).float()
