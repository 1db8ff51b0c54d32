"""The teachers of a plan, and the velocity that their mixture gives.

Shapes: B batch, R some of its samples, N latent tokens, D latent channels, M teachers (0 is the base). The paper mixes
scores: s_real = sum_m lambda_{k,m}(c) s_m (arXiv 2606.03746, step-wise multi-teacher guidance). On this path the score
is affine in v and the weights sum to 1, so velocities are mixed in place of scores. Classifier-free guidance is applied
to each v_m first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fewstep.backbones.backbone import Prefix
from fewstep.backbones.conditioning import (
    Conditioning,
    stack,
)
from fewstep.flow.guidance import NO_GUIDANCE, Guidance
from fewstep.flow.guided_velocity import guided
from fewstep.roles.network import Network
from fewstep.roles.step_index import StepIndex
from fewstep.roles.teacher_plan import BASE, TeacherPlan
from fewstep.roles.teacher_weights import teacher_weights
from fewstep.roles.weight_control import TeacherWeightControl
from fewstep.runtime.device import to_device
from fewstep.runtime.task import Task


class TeacherBatch(Protocol):
    """What the teachers need of a batch.

    That is its task, the conditioning that teachers read, the unconditional branch of each negative prompt (with the
    same references), and the category of each sample.
    """

    @property
    def task(self) -> Task: ...
    @property
    def taught(self) -> Conditioning: ...
    @property
    def negatives(self) -> Mapping[str, Conditioning]: ...
    @property
    def categories(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Teacher:
    """A frozen network, and its guidance at each task."""

    network: Network
    guidance: Mapping[Task, Guidance]


@dataclass(frozen=True)
class TeacherPrediction:
    """The velocities of one teacher, fp32, for the samples that it was evaluated on.

    Args:
        rows: the indices of these samples in the batch.
        lam_R: the teacher's weights on them, on the CPU.
        v_RND: with guidance.
        v_cond_RND: before guidance.
    """

    rows: tuple[int, ...]
    lam_R: Tensor
    v_RND: Tensor
    v_cond_RND: Tensor

    def velocities(self, rows: Sequence[int]) -> Tensor:
        """The velocities for `rows`, which must be among the samples that it was evaluated on."""
        return _select(self.v_RND, [self.rows.index(row) for row in rows], len(self.rows))


@dataclass(frozen=True)
class MixedPrediction:
    """v_real, and the prediction of each teacher that was evaluated for it."""

    v_real_BND: Tensor
    by_teacher: Mapping[str, TeacherPrediction]

    def common_rows(self, name: str) -> list[int]:
        """The samples on which both the base and teacher `name` were evaluated."""
        if BASE not in self.by_teacher or name not in self.by_teacher:
            return []
        base = set(self.by_teacher[BASE].rows)
        return [row for row in self.by_teacher[name].rows if row in base]


Prefixes = dict[tuple[object, ...], Prefix | None]
"""The prefixes of teachers on one batch, by teacher, samples and branch. Teachers are frozen. So whoever evaluates them
several times on one batch can keep what does not depend on t."""


class Teachers:
    """The teachers of a run, and their mixture v_real.

    Guidance with a kept norm is not linear. So each teacher is guided first, and then the velocities are mixed.
    """

    def __init__(
        self,
        plan: TeacherPlan,
        teachers: Mapping[str, Teacher],
        iterations: int,
        trust: TeacherWeightControl | None = None,
    ):
        assert set(teachers) <= set(plan.names), (set(teachers), plan.names)
        self.plan = plan
        self.teachers = dict(teachers)
        self.iterations = iterations
        self.trust = trust or TeacherWeightControl(plan.weighted)
        self.forwards: Counter[str] = Counter()  # evaluations by teacher since the start of this process
        self.batched_cfg = True  # both branches of guidance in one forward, if their texts have the same length

    def of_task(self, task: Task, category: str | None = None) -> Teacher:
        """The teacher that decides the details of such a case: the one with the most weight at the student's last step,
        once the ramp is over. Where several are even, the first: the base before all others."""
        lam_M = self.plan.row(-1, 1.0, task, category)
        return self.teachers[self.plan.names[lam_M.index(max(lam_M))]]

    def velocity(
        self, z_BND: Tensor, t_B: Tensor, batch: TeacherBatch, at: StepIndex, prefixes: Prefixes | None = None
    ) -> Tensor:
        """v_real at (z_BND, t_B), fp32, shape BND: `prediction` without its parts."""
        # v_real = sum_m lambda_{k,m}(c) guided(v_m)(z, t, c)    [the paper, step-wise multi-teacher, in velocities]
        return self.prediction(z_BND, t_B, batch, at, prefixes=prefixes).v_real_BND

    @torch.no_grad()
    def prediction(
        self,
        z_BND: Tensor,
        t_B: Tensor,
        batch: TeacherBatch,
        at: StepIndex,
        *,
        unguided: bool = False,
        include_base: bool = False,
        prefixes: Prefixes | None = None,
    ) -> MixedPrediction:
        """v_real and its parts. Each teacher is evaluated only on the samples on which it has weight.

        Args:
            unguided: leave guidance out, because decoupled guidance gives it a term of its own.
            include_base: also evaluate the base on every sample on which a specialised teacher has weight, to compare
                the two.
            prefixes: prefixes of this batch to reuse and to add to; None keeps nothing.
        """
        lam_MB = self._weights(batch, at)
        asked_MB = lam_MB > 0
        together_M = self._may_teach(batch, at)
        if include_base:
            asked_MB[0] |= asked_MB[1:].any(dim=0)
            together_M[0] |= together_M[1:].any()
        by_teacher: dict[str, TeacherPrediction] = {}
        for m, name in enumerate(self.plan.names):
            if asked_MB[m].any() or self._must_join(name, together_M[m]):
                one = self._predict_one(_Query(name, batch, prefixes, unguided), z_BND, t_B, asked_MB[m], lam_MB[m])
                if one is not None:
                    by_teacher[name] = one
        v_real_BND = torch.zeros_like(z_BND, dtype=torch.float32)
        for one in by_teacher.values():
            _add(v_real_BND, one.rows, one.lam_R, one.v_RND)
        return MixedPrediction(v_real_BND, by_teacher)

    @torch.no_grad()
    def guidance_term(
        self, z_BND: Tensor, t_B: Tensor, batch: TeacherBatch, at: StepIndex, prefixes: Prefixes | None = None
    ) -> tuple[Tensor, Tensor]:
        """What guidance adds to v_real, and the velocity that it is added to, both fp32 of shape BND.

        The second is the mean of v_m over the guided teachers, with the same weights. Both are 0 on samples without a
        guided teacher. Teachers without guidance are not evaluated.
        """
        # sum_m lambda_m (guided(v_m) - v_m), and sum_m lambda_m v_m / sum_m lambda_m over guided teachers m
        term_BND, v_cond_BND = (torch.zeros_like(z_BND, dtype=torch.float32) for _ in range(2))
        lam_MB = self._weights(batch, at)
        active_M = torch.tensor([self._guidance(name, batch).active for name in self.plan.names])
        asked_MB = (lam_MB > 0) & active_M[:, None]
        together_M = self._may_teach(batch, at) & active_M
        total_B = (lam_MB * asked_MB).sum(dim=0).clamp_min(1e-12)
        for m, name in enumerate(self.plan.names):
            lam_B = lam_MB[m]
            if asked_MB[m].any() or self._must_join(name, together_M[m]):
                one = self._predict_one(_Query(name, batch, prefixes), z_BND, t_B, asked_MB[m], lam_B)
                if one is None:
                    continue
                _add(term_BND, one.rows, one.lam_R, one.v_RND - one.v_cond_RND)
                _add(v_cond_BND, one.rows, (lam_B / total_B)[list(one.rows)], one.v_cond_RND)
        return term_BND, v_cond_BND

    def _weights(self, batch: TeacherBatch, at: StepIndex) -> Tensor:
        """lambda_{k,m}(c) of each sample, shape (M, B)."""
        tasks = [batch.task] * len(batch.categories)
        return teacher_weights(
            self.plan, at.k, at.iteration, self.iterations, tasks, batch.categories, self.trust.shares
        )

    def _may_teach(self, batch: TeacherBatch, at: StepIndex) -> Tensor:
        """Whether the samples of some rank could need a teacher, whatever their categories. Shape (M,)."""
        return torch.tensor(self.plan.may_teach(at.k, at.iteration, self.iterations, batch.task, self.trust.shares))

    def _must_join(self, name: str, together: Tensor) -> bool:
        """Whether this rank must run a teacher even if none of its own samples needs it.

        All ranks run a sharded network, or none does: each block is gathered from all of them, and a rank that stays
        away leaves the others waiting forever. The categories of the samples decide which teachers a rank needs, and
        they differ from rank to rank. So the decision is made by what any rank could need.
        """
        return bool(together) and name in self.teachers and self.teachers[name].network.is_sharded

    def _guidance(self, name: str, batch: TeacherBatch) -> Guidance:
        return self.teachers[name].guidance.get(batch.task, NO_GUIDANCE) if name in self.teachers else NO_GUIDANCE

    def _predict_one(
        self, query: "_Query", z_BND: Tensor, t_B: Tensor, asked_B: Tensor, lam_B: Tensor
    ) -> TeacherPrediction | None:
        """The prediction of one teacher for the samples that need it.

        If no sample of this rank needs it, it still runs on the first sample, because the other ranks need this rank's
        shards of its weights. The result is None then.
        """
        asking = asked_B.nonzero().flatten().tolist()
        rows = asking or [0]
        guidance, batch = self._guidance(query.name, query.batch), query.batch
        guides = guidance.active and not query.unguided
        cond, uncond = batch.taught, batch.negatives[guidance.negative] if guides else None
        if len(rows) < len(z_BND):
            z_BND, t_B = (_select(value, rows, len(asked_B)) for value in (z_BND, t_B))
            cond, uncond = cond.rows(rows), None if uncond is None else uncond.rows(rows)
        request = _TeacherRequest(query.name, tuple(rows), query.prefixes)
        with self.teachers[query.name].network.active():  # over both branches: an offloaded teacher is copied once
            v_cond, v_uncond = self._branches(request, z_BND, t_B, cond, uncond)
        if not asking:
            return None
        v = v_cond if v_uncond is None else guided(v_cond, v_uncond, guidance)
        return TeacherPrediction(tuple(rows), lam_B[rows], v, v_cond)

    def _branches(
        self, asked: "_TeacherRequest", z_BND: Tensor, t_B: Tensor, cond: Conditioning, uncond: Conditioning | None
    ) -> tuple[Tensor, Tensor | None]:
        if uncond is None:
            return self._forward(asked, "cond", z_BND, t_B, cond), None
        if self.batched_cfg and cond.layout == uncond.layout and cond.text_BLC.shape == uncond.text_BLC.shape:
            # Only if both texts have the same length: padding the shorter one would cost its mask and its keys.
            both = self._forward(asked, "both", z_BND.repeat(2, 1, 1), t_B.repeat(2), stack([cond, uncond]))
            v_cond_BND, v_uncond_BND = both.chunk(2)
            return v_cond_BND, v_uncond_BND
        return self._forward(asked, "cond", z_BND, t_B, cond), self._forward(asked, "uncond", z_BND, t_B, uncond)

    def _forward(self, asked: "_TeacherRequest", branch: str, z_BND: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        self.forwards[asked.name] += 1
        network = self.teachers[asked.name].network
        return network.velocity(z_BND, t_B, cond, asked.prefix(network, branch, cond)).float()


@dataclass(frozen=True)
class _Query:
    """Which teacher is evaluated on which batch. unguided: guidance is left out. prefixes: those kept of the batch."""

    name: str
    batch: TeacherBatch
    prefixes: Prefixes | None
    unguided: bool = False


@dataclass(frozen=True)
class _TeacherRequest:
    """Which teacher is evaluated on which samples, and the prefixes that are kept."""

    name: str
    rows: tuple[int, ...]
    prefixes: Prefixes | None

    def prefix(self, network: Network, branch: str, cond: Conditioning) -> Prefix | None:
        """The kept prefix of this branch, computed if it is not there yet. None means that none is kept.

        For a sharded network none is kept. Whether a prefix is there already depends on a rank's own samples, but
        computing one is a forward, which all ranks must run together.
        """
        if self.prefixes is None or network.is_sharded:
            return None
        key = (self.name, self.rows, branch)
        if key not in self.prefixes:
            self.prefixes[key] = network.prefix(cond)
        return self.prefixes[key]


def _add(to_BND: Tensor, rows: Sequence[int], lam_R: Tensor, v_RND: Tensor) -> None:
    """to[rows] += lam v. A weight that is the same for all samples is used as a float: that needs no copy to the
    device."""
    alike = bool((lam_R == lam_R[0]).all())
    weighted = (float(lam_R[0]) if alike else to_device(lam_R, to_BND.device)[:, None, None]) * v_RND
    if len(rows) == len(to_BND):
        to_BND += weighted
    else:
        to_BND.index_add_(0, to_device(torch.tensor(rows), to_BND.device), weighted)


def _select(value: Tensor, rows: Sequence[int], total: int) -> Tensor:
    if len(rows) == total:
        return value
    return value[to_device(torch.tensor(rows), value.device)]
