"""ONE iteration of step-wise distribution matching distillation, as arXiv 2606.03746 tells it.

Shapes: B batch, N latent tokens, D latent channels, K student steps (k = 0 is the noisiest). Every draw has a name and
the iteration's number, and each sample its own noise: a resumed run and another number of ranks draw the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from fewstep.backbones.backbone import Prefix
from fewstep.encode.loader import Batch
from fewstep.flow import path
from fewstep.flow.rng import NamedRNG
from fewstep.objective.critic import critic_loss
from fewstep.objective.dmd import dmd_loss
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.rollout import Rollout, roll_out
from fewstep.objective.times import times
from fewstep.roles.build import Roles
from fewstep.roles.plan import CriticPlan, StudentPlan
from fewstep.roles.teachers import Prefixes
from fewstep.runtime.device import to_device
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import Task
from fewstep.train.diagnostics import DEFAULT_DIAGNOSTICS, TeacherDiagnostics
from fewstep.train.ema import EMA
from fewstep.train.extra_losses import ExtraLoss, LossInputs
from fewstep.train.monitor import StepTimer, merge_metrics
from fewstep.train.role_optimizer import RoleOptimizer

StepMetrics = dict[str, Tensor]  # scalars on the device: who reads one waits for it


def exit_step(rng: NamedRNG, task: Task, turn: int, steps: int) -> int:
    """The student step that the turn-th batch of a task improves; the same on every rank.

    Any `steps` batches of a task, from a multiple of `steps` on, improve each step once, so that every row of the
    teacher plan counts alike. Their order is drawn: in a fixed one (iteration mod steps, say) tasks or categories that
    come round with the same period would only ever meet some of the steps.
    """
    order = rng.uniform((steps,), f"exit steps {task}", turn // steps).argsort()
    return int(order[turn % steps])


@dataclass(frozen=True)
class StudentForward:
    """The student's velocity at the step that is improved, with its gradient, and the prefix that it was given."""

    v_BND: Tensor
    prefix: Prefix | None


@dataclass(frozen=True)
class RolloutState:
    """A part of the batch, the student's states on it, and where they are kept the prefix that they share and the one
    forward with its gradient: valid until the student's update."""

    batch: Batch
    rollout: Rollout
    prefix: Prefix | None
    forward: StudentForward | None = None


@dataclass(frozen=True)
class DMDStep:
    """What all iterations of a run share."""

    roles: Roles
    student: StudentPlan
    critic: CriticPlan
    objective: ObjectivePlan
    rng: NamedRNG
    student_optimizer: RoleOptimizer
    critic_optimizer: RoleOptimizer
    ema: EMA
    timer: StepTimer
    diagnostics: TeacherDiagnostics = DEFAULT_DIAGNOSTICS
    extra_losses: tuple[ExtraLoss, ...] = ()

    def exit_step(self, task: Task, turn: int) -> int:
        """The student step that the turn-th batch of a task improves, of those that matching improves at all."""
        first = self.objective.first_matched_step(task)
        return first + exit_step(self.rng, task, turn, self.student.steps - first)

    def iterate(self, i: int, k: int, *parts: Batch) -> StepMetrics:
        """Iteration i, exit step k: the critic follows the student, the student the teachers; one rollout for both, as
        far as both look at it. parts: the batch, in as many as memory asks for; networks run on one at a time."""
        followed = k if self.critic.exit_step == "same" else None
        once = k if self.student.forward_once else None
        states = [self.roll_out(part, "rollout", i, last=followed, keep=len(parts) == 1, once=once) for part in parts]
        return self.update_critic(states, followed, "critic", i) | self.update_student(states, k, i)

    def warm_up(self, w: int, *parts: Batch) -> StepMetrics:
        """A critic-only iteration, before the first: the critic has to know the student before it is believed."""
        states = [self.roll_out(part, "warm-up rollout", w) for part in parts]
        return self.update_critic(states, None, "warm-up critic", w)

    def roll_out(
        self, batch: Batch, name: str, i: int, last: int | None = None, keep: bool = False, once: int | None = None
    ) -> RolloutState:
        """The student's states from fresh noise. Steps past `last` are not run; None: all K are.

        Args:
            keep: also the prefix that they share, where it counts as constant.
            once: the step whose forward is run with its gradient, and kept: the student's update needs no other.
        """
        with self.timer.part("rollout"), torch.no_grad(), self.roles.student.active():
            prefix = self.roles.student.prefix(batch.cond)
            if prefix is None and "stopped" in (self.student.prefix_gradient, self.critic.prefix_gradient):
                raise RecipeError(
                    f"prefix_gradient: stopped is for families whose text and references do not depend on t; "
                    f"{self.roles.student.backbone.family} is none. Choose full"
                )
            # Nobody else needs a prefix with gradient; kept through an iteration of edits it is gigabytes at 7 B, and
            # as much again for every further part of a batch.
            kept = prefix if keep and self.student.prefix_gradient == "stopped" else None
            plain, steps, forwards = self.roles.student.bind(batch.cond, prefix), count(), list[StudentForward]()

            def velocity(z_BND: Tensor, t_B: Tensor) -> Tensor:
                if next(steps) != once:
                    return plain(z_BND, t_B)
                with torch.enable_grad():
                    forwards.append(self.forward(batch, z_BND, t_B, kept))
                return forwards[0].v_BND.detach()

            rollout = roll_out(velocity, self.noise(batch, name, i), self.student.grid, last)
            return RolloutState(batch, rollout, kept, next(iter(forwards), None))

    def update_critic(self, states: Sequence[RolloutState], k: int | None, name: str, i: int) -> StepMetrics:
        """The critic's updates: flow matching on the student's clean estimates at step k, or (None) at steps drawn anew
        for each sample and update."""
        updates: list[StepMetrics] = []
        for j in range(self.critic.updates):
            with self.timer.part("critic"):
                parts = [(state.batch.share, self.critic_backward(state, k, name, i, j)) for state in states]
                updates.append(merge_metrics(parts) | self.critic_optimizer.step())
        metrics = {key: torch.stack([update[key] for update in updates]).mean() for key in updates[0]}
        return _prefixed("critic", metrics | {"skipped": metrics["skipped"] * len(updates)})

    def update_student(self, states: Sequence[RolloutState], k: int, i: int) -> StepMetrics:
        """The student's one update, at step k."""
        parts = [(state.batch.share, self.student_backward(state, k, i)) for state in states]
        with self.timer.part("student"):
            metrics = merge_metrics(parts) | _prefixed("student", self.student_optimizer.step())
            self.ema.update()
        return metrics

    def critic_backward(self, state: RolloutState, k: int | None, name: str, i: int, j: int) -> StepMetrics:
        """One part of the critic's loss in update j, and its gradient."""
        batch, rollout = state.batch, state.rollout
        x0_BND = rollout.clean(k) if k is not None else self.x0_at_random_steps(rollout, batch, f"{name} exit", i, j)
        velocity = self.roles.critic.bind(batch.cond, self.critic_prefix(batch))
        eps_BND, t_B = self.noise(batch, f"{name} noise", i, j), self.times(batch, f"{name} time", i, j)
        loss, what = critic_loss(velocity, x0_BND, eps_BND, t_B)
        self.critic_optimizer.backward(loss, batch.share)
        return {"loss": loss.detach(), **what}

    def student_backward(self, state: RolloutState, k: int, i: int) -> StepMetrics:
        """One part of the student's loss at step k, and its gradient: where teachers and critic differ, on the
        student's clean estimate noised afresh."""
        batch, rollout = state.batch, state.rollout
        z_k, t_k = rollout.states[k], rollout.time(k)
        with self.timer.part("student"):  # the one forward with its gradient
            forward = state.forward or self.forward(batch, z_k, t_k, state.prefix)
            x0_BND = path.clean(z_k, forward.v_BND, t_k)

        t_B = self.times(batch, "time", i)
        z_BND = path.noised(x0_BND.detach(), self.noise(batch, "noise", i), t_B)
        unguided, include_base = self.objective.decoupled_guidance, self.diagnostics.include_base(i)
        prefixes: Prefixes = {}
        with self.timer.part("teachers"):
            prediction = self.roles.teachers.prediction(
                z_BND, t_B, batch, k, i,
                unguided=unguided, include_base=include_base, prefixes=prefixes if self.extra_losses else None,
            )  # fmt: skip
        with self.timer.part("critic"), torch.no_grad():
            v_fake_BND = self.roles.critic.velocity(z_BND, t_B, batch.cond)

        with self.timer.part("student"):
            loss, what = dmd_loss(
                x0_BND, z_BND, t_B, prediction.v_real_BND, v_fake_BND, self.objective.normaliser_floor
            )
            what |= self.diagnostics.metrics(prediction, x0_BND, z_BND, t_B, v_fake_BND)
            for term in self.extra_losses:  # none unless the recipe asks
                more, more_metrics = term(
                    LossInputs(i, k, batch, rollout, forward.v_BND, x0_BND, forward.prefix, prefixes)
                )
                loss, what = loss + more, what | more_metrics
            self.student_optimizer.backward(loss, batch.share)
        return {"student_loss": loss.detach(), **what}

    def forward(self, batch: Batch, z_BND: Tensor, t_B: Tensor, prefix: Prefix | None) -> StudentForward:
        """The student at the step that is improved. prefix: a constant one that is there already."""
        prefix = prefix if prefix is not None else self.student_prefix(batch)
        return StudentForward(self.roles.student.velocity(z_BND, t_B, batch.cond, prefix), prefix)

    def x0_at_random_steps(self, rollout: Rollout, batch: Batch, name: str, *counters: int) -> Tensor:
        """Clean estimates of each sample at a step of its own, of those that matching improves: where the student is
        never compared, the critic need not know it."""
        first = self.objective.first_matched_step(batch.task)
        drawn_B = self.rng.uniform_per_sample(batch.samples, name, *counters) * (self.student.steps - first)
        return rollout.clean_at(_placed(first + drawn_B.long(), batch))

    def student_prefix(self, batch: Batch) -> Prefix | None:
        """The student's prefix for its update, where the rollout's was not kept: as a constant, or with its gradient
        where a term asks the student a second time; one forward alone is cheaper whole. Split weights are gathered for
        a block's backward by the gradient of what the block returns, and a prefix is no such thing."""
        stopped = self.student.prefix_gradient == "stopped"
        if not stopped and (not self.objective.anchored(batch.task) or self.roles.student.is_sharded):
            return None
        with torch.set_grad_enabled(not stopped):
            return self.roles.student.prefix(batch.cond)

    @torch.no_grad()
    def critic_prefix(self, batch: Batch) -> Prefix | None:
        """The critic's prefix as a constant, made anew for each update of its weights; none where it has a gradient."""
        return self.roles.critic.prefix(batch.cond) if self.critic.prefix_gradient == "stopped" else None

    def noise(self, batch: Batch, name: str, *counters: int) -> Tensor:
        """Standard normal BND in the target's shape, each sample's its own."""
        shape = self.roles.student.backbone.noise_shape(batch.cond.layout)
        return _placed(self.rng.normal_per_sample(batch.samples, shape, name, *counters), batch)

    def times(self, batch: Batch, name: str, *counters: int) -> Tensor:
        """t_B from p(t), each sample's its own."""
        return _placed(times(self.rng.uniform_per_sample(batch.samples, name, *counters), self.objective), batch)


def _placed(drawn: Tensor, batch: Batch) -> Tensor:
    return to_device(drawn, batch.cond.text_BLC.device)


def _prefixed(role: str, metrics: StepMetrics) -> StepMetrics:
    return {f"{role}_{name}": value for name, value in metrics.items()}
