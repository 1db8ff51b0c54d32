"""p(t): the noise levels at which teacher and critic are compared, and at which the critic learns."""

import torch
from torch import Tensor

from fewstep.objective.plan import ObjectivePlan


def times(u_B: Tensor, plan: ObjectivePlan) -> Tensor:
    """t_B in (0, 1) for u_B uniform on [0, 1), float32: one uniform value a sample, whatever the distribution.

    uniform: t uniform on [low, high]. logit-normal: logit(t) standard normal, cut to [low, high] by its quantiles.
    The shift a t / (1 + (a - 1) t) comes after either.
    """
    u = u_B.double()
    if plan.time_distribution == "uniform":
        t = plan.time_low + (plan.time_high - plan.time_low) * u
    else:
        bounds = torch.tensor([plan.time_low, plan.time_high], dtype=u.dtype, device=u.device)
        low, high = torch.special.ndtr(torch.logit(bounds))
        t = torch.sigmoid(torch.special.ndtri(low + (high - low) * u))
    a = plan.time_shift
    return (a * t / (1 + (a - 1) * t)).float()
