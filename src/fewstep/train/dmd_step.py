"""ONE iteration of step-wise multi-teacher distribution matching distillation (arXiv 2606.03746).

Shapes: B batch, N latent tokens, D latent channels. theta is the student, psi the critic, m = 0..M are the teachers, k
is one of the student's K steps (0 is the noisiest). z_t = (1 - t) x0 + t eps, v = eps - x0, hence x0 = z_t - t v.
Sources: the paper; DMD (arXiv 2311.18828); DMD2 (2405.14867); the report of Qwen-Image-2.0 (2605.10730).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fewstep.encode.batch import Batch
from fewstep.flow import path
from fewstep.objective.critic import critic_loss
from fewstep.objective.dmd import dmd_loss
from fewstep.roles.roles import Roles
from fewstep.roles.step_index import StepIndex
from fewstep.roles.teachers import Prefixes
from fewstep.train.diagnostics import TeacherDiagnostics
from fewstep.train.loss_inputs import ExtraLoss, LossInputs
from fewstep.train.monitor import StepMetrics, StepTimer, mean_metrics, merge_metrics, prefixed
from fewstep.train.optimizers import Optimizers
from fewstep.train.settings import DMDSettings
from fewstep.train.student_rollout import RolloutState, StudentRollouts


@dataclass(frozen=True)
class DMDStep:
    """What all iterations of a run share; `train.build.build_dmd_step` makes it."""

    roles: Roles
    settings: DMDSettings
    student: StudentRollouts
    optimizers: Optimizers
    timer: StepTimer
    diagnostics: TeacherDiagnostics
    extra_losses: tuple[ExtraLoss, ...] = ()

    def iterate(self, i: int, k: int, *parts: Batch) -> StepMetrics:
        """Iteration i, which improves student step k (the exit step). parts: the batch, cut as memory requires."""
        # 1. The student samples on the grid that is shipped, without gradient. One rollout serves the whole iteration:
        #    z_{k+1} = z_k + (t_{k+1} - t_k) v_theta(z_k, t_k, c), z_0 ~ N(0, 1)    [DMD2 sec. 4.5, backward simulation]
        states = [self.roll_out(part, "rollout", i, k, keep=len(parts) == 1) for part in parts]
        # 2. The critic learns the student's distribution.     3. The student is matched to the teachers, at step k.
        if self.settings.critic.order == "student-first":  # as DMD2's code: the critic is asked before it learns
            return self.update_student(states, k, i) | self.update_critic(states, k, "critic", i)
        return self.update_critic(states, k, "critic", i) | self.update_student(states, k, i)

    def warm_up(self, w: int, *parts: Batch) -> StepMetrics:
        """A critic-only iteration, before the first: the critic must know the student before it is used."""
        states = [self.roll_out(part, "warm-up rollout", w, None) for part in parts]
        return self.update_critic(states, None, "warm-up critic", w)

    def roll_out(self, part: Batch, name: str, i: int, k: int | None, **how: bool) -> RolloutState:
        with self.timer.part("rollout"):  # each part's own: a plan takes the peak and the work of every one
            return self.student.roll_out(part, name, i, k, **how)

    def update_critic(self, states: Sequence[RolloutState], k: int | None, name: str, i: int) -> StepMetrics:
        """Several updates of psi for one of theta (DMD2 sec. 4.2, two time-scale updates)."""
        updates: list[StepMetrics] = []
        for j in range(self.settings.critic.updates):
            if self.settings.critic.new_rollout(j):  # else all share the one that the student is improved on (ours)
                states = [self.roll_out(state.batch, f"{name} rollout {j}", i, k, once=False) for state in states]
            with self.timer.part("critic"):
                parts = [(state.batch.share, self.critic_backward(state, k, name, i, j)) for state in states]
                updates.append(merge_metrics(parts) | self.optimizers.critic.step())
        return prefixed("critic", mean_metrics(updates))

    def update_student(self, states: Sequence[RolloutState], k: int, i: int) -> StepMetrics:
        """The one update of theta, and of its moving average, which is shipped."""
        parts = [(state.batch.share, self.student_backward(state, k, i)) for state in states]
        with self.timer.part("student"):
            metrics = merge_metrics(parts) | prefixed("student", self.optimizers.student.step())
            self.optimizers.ema.update()
        return metrics

    def critic_backward(self, state: RolloutState, k: int | None, name: str, i: int, j: int) -> StepMetrics:
        """The gradient of psi in update j, on one part: psi learns the velocity of the student's distribution."""
        batch, draws, cond = state.batch, self.student.draws, state.batch.read_by(self.settings.critic.prompts)
        # x0 = z_k - t_k v_theta(z_k, t_k, c): at the exit step, or at steps drawn anew for each sample and update.
        step = k if self.settings.critic.exit_step == "same" else None
        x0_BND = self.student.x0(state, step, f"{name} exit", i, j)
        eps_BND, t_B = draws.noise(batch, f"{name} noise", i, j), draws.times(batch, f"{name} time", i, j)
        # L(psi) = E |v_psi(z_t, t, c) - (eps - x0)|^2, z_t = (1 - t) x0 + t eps, no CFG     [DMD eq. 6, in velocities]
        velocity = self.roles.critic.bind(cond, constant_prefix=self.settings.critic.prefix_gradient == "stopped")
        loss, figures = critic_loss(velocity, x0_BND, eps_BND, t_B)
        self.optimizers.critic.backward(loss, batch.share)
        return {"loss": loss.detach(), **figures}

    def student_backward(self, state: RolloutState, k: int, i: int) -> StepMetrics:
        """The gradient of theta on one part: the difference between teachers and critic at the student's estimate."""
        batch, at, prefixes = state.batch, StepIndex(i, k), Prefixes()
        # x0 = z_k - t_k v_theta(z_k, t_k, c), the one forward with a gradient     [Qwen-Image-2.0 report, sec. 4.3]
        with self.timer.part("student"):
            forward = self.student.forward(state, k)
            x0_BND = path.clean(state.rollout.states[k], forward.v_BND, state.rollout.time(k))
        # z_t = (1 - t) x0 + t xi, xi ~ N(0, 1), t ~ p(t)                          [the paper, preliminaries; DMD eq. 3]
        t_B = self.student.draws.times(batch, "time", i)
        z_BND = path.noised(x0_BND.detach(), self.student.draws.noise(batch, "noise", i), t_B)
        # v_real = sum_m lambda_{k,m}(c) v_m(z_t, t, c), sum_m lambda = 1           [the paper, step-wise multi-teacher]
        with self.timer.part("teachers"):
            real = self.roles.teachers.prediction(
                z_BND, t_B, batch, at, unguided=self.settings.objective.decoupled_guidance,
                include_base=self.diagnostics.include_base(i), prefixes=prefixes if self.extra_losses else None,
            )  # fmt: skip
        # v_fake = v_psi(z_t, t, c)                                                 [DMD eq. 5]
        with self.timer.part("critic"), torch.no_grad():
            v_fake_BND = self.roles.critic.velocity(z_BND, t_B, batch.read_by(self.settings.critic.prompts))
        # g = t (v_real - v_fake) / max(mean |x0 - x0_real|, floor), dL/dtheta = E[g dx0/dtheta]     [DMD eq. 7 and 8]
        with self.timer.part("student"):
            floor = self.settings.objective.normaliser_floor
            loss, metrics = dmd_loss(x0_BND, z_BND, t_B, real.v_real_BND, v_fake_BND, floor)
            metrics |= self.diagnostics.metrics(real, x0_BND, z_BND, t_B, v_fake_BND)
            for extra in self.extra_losses:  # none unless the recipe asks
                inputs = LossInputs(at, batch, state.rollout, forward.v_BND, x0_BND, forward.prefix, prefixes)
                term, figures = extra(inputs)
                loss, metrics = loss + term, metrics | figures
            self.optimizers.student.backward(loss, batch.share)
        return {"student_loss": loss.detach(), **metrics}
