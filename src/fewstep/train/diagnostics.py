"""Figures that show how well the teachers' guidance works, of one iteration, as scalars on the device.

Their names are <figure>/<teacher>. They cost no extra forward: specialised teachers are measured where both they and
the base have weight anyway. The exception are iterations in which `base_every` asks for one more forward of the base.
`train/monitor.py` reacts to them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.flow import path
from fewstep.objective.mismatch import mismatch
from fewstep.roles.plan import WatchPlan
from fewstep.roles.teacher_plan import BASE
from fewstep.roles.teachers import MixedPrediction
from fewstep.runtime.device import to_device

SATURATION_LIMIT = 3.0  # ours; latents are normalised to unit variance, so 0.3 % of a Gaussian's values lie beyond


@dataclass(frozen=True)
class TeacherDiagnostics:
    """What a run records about the guidance of its teachers."""

    plan: WatchPlan

    def include_base(self, i: int) -> bool:
        """Whether iteration i evaluates the base on all samples in order to measure, even where it has no weight.

        That is one iteration in every `base_every`, each time a place later. Tasks take turns, so every 20th iteration
        would meet one of them alone, and the teachers of the other would never be measured.
        """
        n = self.plan.base_every
        return n > 0 and i % n == (i // n) % n

    def metrics(
        self, prediction: MixedPrediction, x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_fake_BND: Tensor
    ) -> dict[str, Tensor]:
        """The figures of one iteration. x0_BND is the student's clean estimate; z_BND is it with noise at t_B."""
        found = {
            f"{figure}/{name}": value
            for name in prediction.by_teacher
            for figure, value in pull_metrics(prediction, name, v_fake_BND)
        }
        if self.plan.latents:
            found |= latent_metrics(x0_BND, z_BND, t_B, prediction.v_real_BND, v_fake_BND)
        return found


def pull_metrics(prediction: MixedPrediction, name: str, v_fake_BND: Tensor) -> list[tuple[str, Tensor]]:
    """cosine, ratio and pull of one specialised teacher, over the samples on which the base was evaluated as well.

    Empty if there are none.
    """
    rows = prediction.common_rows(name) if name != BASE else []
    if not rows:
        return []
    one, base = prediction.by_teacher[name], prediction.by_teacher[BASE]
    lam_R = to_device(one.lam_R[[one.rows.index(row) for row in rows]], v_fake_BND.device)
    v_fake = (
        v_fake_BND if len(rows) == len(v_fake_BND) else v_fake_BND[to_device(torch.tensor(rows), v_fake_BND.device)]
    )
    return list(mismatch(one.velocities(rows), base.velocities(rows), v_fake, lam_R).items())


def latent_metrics(
    x0_BND: Tensor, z_BND: Tensor, t_B: Tensor, v_real_BND: Tensor, v_fake_BND: Tensor
) -> dict[str, Tensor]:
    """The student's latents, compared with the teachers'.

    Returns:
        saturation: the share of the student's clean values beyond SATURATION_LIMIT.
        saturation_teachers: the same of the teachers' clean estimate at the same z.
        latent_mean: the mean of the critic's clean estimate minus that of the teachers', in standard deviations of the
            latter. 0 where critic and teachers agree.
        latent_spread: the ratio of the two standard deviations. 1 where they agree.

    The critic's estimate stands in for the student's sample here, because an estimate has a smaller spread than what it
    estimates: only estimates can be compared with estimates.
    """
    real, fake = (path.clean(z_BND.float(), v.float(), t_B) for v in (v_real_BND, v_fake_BND))
    spread = real.std().clamp_min(1e-12)
    return {
        "saturation": (x0_BND.detach().abs() > SATURATION_LIMIT).float().mean(),
        "saturation_teachers": (real.abs() > SATURATION_LIMIT).float().mean(),
        "latent_mean": (fake.mean() - real.mean()) / spread,
        "latent_spread": fake.std() / spread,
    }
