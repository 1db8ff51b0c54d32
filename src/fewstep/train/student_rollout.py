"""The student's side of an iteration: its rollout, and its one forward with a gradient.

What is saved is saved here, and nothing of it changes a number: steps that nobody looks at are not run, the states of a
rollout serve the critic and the student alike, a prefix that does not depend on t is made once while the weights stay,
and a forward with its gradient may be the rollout's own.
"""

from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from fewstep.backbones.backbone import Prefix
from fewstep.encode.batch import Batch
from fewstep.objective.rollout import Rollout, roll_out
from fewstep.roles.network import Network
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import Task
from fewstep.train.draws import Draws
from fewstep.train.settings import DMDSettings


@dataclass(frozen=True)
class StudentForward:
    """v_theta at the exit step, with its gradient, and the prefix that it was given (None: it made its own)."""

    v_BND: Tensor
    prefix: Prefix | None


@dataclass(frozen=True)
class RolloutState:
    """A part of the batch and the student's states on it; valid until the student's update. Where they are kept: the
    constant prefix that its steps share, and the one forward with its gradient."""

    batch: Batch
    rollout: Rollout
    prefix: Prefix | None = None
    forward: StudentForward | None = None


@dataclass(frozen=True)
class StudentRollouts:
    """Makes rollouts, and asks the student at one of their states."""

    student: Network
    settings: DMDSettings
    draws: Draws

    def roll_out(self, batch: Batch, name: str, i: int, exit_step: int | None, keep: bool = False) -> RolloutState:
        """The student's states from fresh noise, named by `name` and number i.

        Args:
            exit_step: k, the step that this iteration improves; None in the critic's warm-up, which looks at all K.
            keep: also the prefix that the steps share, where it counts as constant. For a batch that is whole: kept for
                every part of one it would be gigabytes at 7 B.
        """
        plan, critic = self.settings.student, self.settings.critic
        last = exit_step if critic.exit_step == "same" else None  # steps past it are seen by nobody
        with torch.no_grad(), self.student.active():
            prefix = self.student.prefix(batch.cond)
            if prefix is None and "stopped" in (plan.prefix_gradient, critic.prefix_gradient):
                raise RecipeError(
                    f"prefix_gradient: stopped is for families whose text and references do not depend on t; "
                    f"{self.student.backbone.family} is none. Choose full"
                )
            kept = prefix if keep and plan.prefix_gradient == "stopped" else None
            velocity, steps, forwards = self.student.bind(batch.cond, prefix), count(), list[StudentForward]()

            def step(z_BND: Tensor, t_B: Tensor) -> Tensor:
                if not plan.forward_once or next(steps) != exit_step:
                    return velocity(z_BND, t_B)
                with torch.enable_grad():
                    forwards.append(self._forward(batch, z_BND, t_B, kept))
                return forwards[0].v_BND.detach()

            rollout = roll_out(step, self.draws.noise(batch, name, i), plan.grid, last)
        return RolloutState(batch, rollout, kept, next(iter(forwards), None))

    def exit_step(self, task: Task, turn: int) -> int:
        """k, the student step that the turn-th batch of a task improves, of those that matching improves at all."""
        first = self.settings.objective.first_matched_step(task)
        return first + self.draws.exit_step(task, turn, self.settings.student.steps - first)

    def forward(self, state: RolloutState, k: int) -> StudentForward:
        """v_theta(z_k, t_k, c) with its gradient."""
        if state.forward is not None:
            return state.forward
        return self._forward(state.batch, state.rollout.states[k], state.rollout.time(k), state.prefix)

    def x0(self, state: RolloutState, k: int | None, name: str, *counters: int) -> Tensor:
        """x0_BND at step k. None: of each sample at a step of its own, drawn by name from those that matching improves:
        where the student is never compared, the critic need not know it."""
        if k is not None:
            return state.rollout.clean(k)
        steps = range(self.settings.objective.first_matched_step(state.batch.task), self.settings.student.steps)
        return state.rollout.clean_at(self.draws.student_steps(state.batch, steps, name, *counters))

    def _forward(self, batch: Batch, z_BND: Tensor, t_B: Tensor, prefix: Prefix | None) -> StudentForward:
        prefix = prefix if prefix is not None else self._prefix(batch)
        return StudentForward(self.student.velocity(z_BND, t_B, batch.cond, prefix), prefix)

    def _prefix(self, batch: Batch) -> Prefix | None:
        """The student's prefix for its update, where the rollout's was not kept: as a constant, or with its gradient
        where an extra loss asks the student a second time. One forward alone is cheaper whole. Split weights are
        gathered for a block's backward by the gradient of what the block returns, and a prefix is no such thing."""
        stopped = self.settings.student.prefix_gradient == "stopped"
        if not stopped and (not self.settings.objective.anchored(batch.task) or self.student.is_sharded):
            return None
        with torch.set_grad_enabled(not stopped):
            return self.student.prefix(batch.cond)
