"""The teachers that a plan weighs, and the velocity they give together.

Shapes: B batch, N latent tokens, D latent channels, M teachers (0 is the base). The score is affine in v on this path,
so velocities are mixed: v_real = sum_m lambda_{k,m}(c) v_m, each v_m guided by itself first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fewstep.conditioning import Conditioning, Task, stack
from fewstep.flow.guidance import NONE, Guidance, guided
from fewstep.roles.network import Network
from fewstep.roles.teacher_plan import TeacherPlan


class Lesson(Protocol):
    """What a batch tells the teachers: one task, the conditioning, the unconditional branch of each negative prompt
    (same references), and each sample's category."""

    @property
    def task(self) -> Task: ...
    @property
    def cond(self) -> Conditioning: ...
    @property
    def negatives(self) -> Mapping[str, Conditioning]: ...
    @property
    def categories(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Teacher:
    """A frozen network and how it is guided at each task."""

    network: Network
    guidance: Mapping[Task, Guidance]


class Teachers:
    """v_real: every teacher guided by itself, then mixed - guidance and its kept norm are not linear."""

    def __init__(self, plan: TeacherPlan, teachers: Mapping[str, Teacher], iterations: int):
        assert set(teachers) <= set(plan.names), (set(teachers), plan.names)
        self.plan = plan
        self.teachers = dict(teachers)
        self.iterations = iterations
        self.forwards: Counter[str] = Counter()  # forward passes by teacher since the start of this process

    @torch.no_grad()
    def velocity(self, z_BND: Tensor, t_B: Tensor, batch: Lesson, k: int, iteration: int) -> Tensor:
        """sum_m lambda_{k,m}(c) guided(teacher_m)(z, t, c), fp32. A teacher runs for the samples it has weight on."""
        lam_MB = self.plan.weights(k, iteration, self.iterations, [batch.task] * len(z_BND), batch.categories)
        v_real_BND = torch.zeros_like(z_BND, dtype=torch.float32)
        for name, lam_B in zip(self.plan.names, lam_MB, strict=True):
            rows = lam_B.nonzero().flatten().to(z_BND.device)
            if len(rows) == 0:
                continue
            some = len(rows) < len(z_BND)
            v = self._guided(name, z_BND, t_B, batch, rows if some else None)
            lam = lam_B.to(z_BND.device)[rows, None, None]
            v_real_BND.index_add_(0, rows, lam * v)
        return v_real_BND

    def _guided(self, name: str, z_BND: Tensor, t_B: Tensor, batch: Lesson, rows: Tensor | None) -> Tensor:
        teacher = self.teachers[name]
        guidance = teacher.guidance.get(batch.task, NONE)
        cond, uncond = batch.cond, batch.negatives[guidance.negative] if guidance.active else None
        if rows is not None:
            z_BND, t_B, cond = z_BND[rows], t_B[rows], cond.rows(rows)
            uncond = None if uncond is None else uncond.rows(rows)
        if uncond is None:
            return self._forward(name, z_BND, t_B, cond)
        if cond.layout == uncond.layout and cond.text_BLC.shape == uncond.text_BLC.shape:
            # Of one length only: padding the shorter one would move the target's rotary positions.
            both = self._forward(name, z_BND.repeat(2, 1, 1), t_B.repeat(2), stack([cond, uncond]))
            v_cond_BND, v_uncond_BND = both.chunk(2)
            return guided(v_cond_BND, v_uncond_BND, guidance)
        v_cond_BND = self._forward(name, z_BND, t_B, cond)
        return guided(v_cond_BND, self._forward(name, z_BND, t_B, uncond), guidance)

    def _forward(self, name: str, z_BND: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        self.forwards[name] += 1
        return self.teachers[name].network.velocity(z_BND, t_B, cond).float()
