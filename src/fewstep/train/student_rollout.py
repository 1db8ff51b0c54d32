"""The student's side of an iteration: its rollout, and its one forward with a gradient.

All savings of work are made here, and none of them changes a result. Steps whose states nobody uses are not run. The
states of one rollout serve both the critic and the student. A prefix does not depend on t, so it is computed once while
the weights stay the same. And the forward with a gradient can be the one of the rollout itself.
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
    """v_theta at the exit step, with its gradient, and the prefix that it was given. None: it computed its own."""

    v_BND: Tensor
    prefix: Prefix | None


@dataclass(frozen=True)
class RolloutState:
    """A part of the batch and the student's states on it.

    `prefix` and `forward` are valid until the student's next update. The states are samples: the critic may learn from
    them after it, as in DMD2.

    Args:
        prefix: the constant prefix that all steps share, if it was kept.
        forward: the one forward with a gradient, if the rollout made it.
    """

    batch: Batch
    rollout: Rollout
    prefix: Prefix | None = None
    forward: StudentForward | None = None


@dataclass(frozen=True)
class StudentRollouts:
    """Makes rollouts, and evaluates the student at their states."""

    student: Network
    settings: DMDSettings
    draws: Draws

    def roll_out(
        self, batch: Batch, name: str, i: int, exit_step: int | None, keep: bool = False, once: bool = True
    ) -> RolloutState:
        """The student's states from fresh noise, which is drawn by `name` and number i.

        Args:
            exit_step: k, the step that this iteration improves. None in the critic's warm-up, which uses all K steps.
            keep: keep the prefix that the steps share for the student's update, if it counts as constant. Only for a
                batch in one part: kept for every part, prefixes would take gigabytes at 7 B.
            once: with `student.forward_once`, the rollout makes the forward with a gradient. Not for a rollout that
                the critic alone learns from.

        Raises:
            RecipeError: the recipe stops the prefix's gradient, but the family has no prefix.
        """
        plan, critic = self.settings.student, self.settings.critic
        last = exit_step if critic.exit_step == "same" else None  # nobody uses later states
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
                if not (plan.forward_once and once) or next(steps) != exit_step:
                    return velocity(z_BND, t_B)
                # This forward records a gradient inside no_grad. Its weights must not come out of autocast's cache:
                # copies cast under no_grad have no gradient, and the student would silently get none. `autocast`
                # (runtime/device.py) switches that cache off.
                with torch.enable_grad():
                    forwards.append(self._forward(batch, z_BND, t_B, kept))
                return forwards[0].v_BND.detach()

            rollout = roll_out(step, self.draws.noise(batch, name, i), plan.grid, last)
        return RolloutState(batch, rollout, kept, next(iter(forwards), None))

    def exit_step(self, task: Task, turn: int) -> int:
        """k, the student step that the turn-th batch of a task improves: one of those that learn by matching."""
        first = self.settings.objective.first_matched_step(task)
        return first + self.draws.exit_step(task, turn, self.settings.student.steps - first)

    def forward(self, state: RolloutState, k: int) -> StudentForward:
        """v_theta(z_k, t_k, c) with its gradient: that of the rollout if it made one, or else computed now."""
        if state.forward is not None:
            return state.forward
        return self._forward(state.batch, state.rollout.states[k], state.rollout.time(k), state.prefix)

    def x0(self, state: RolloutState, k: int | None, name: str, *counters: int) -> Tensor:
        """The clean estimate x0_BND at student step k, without gradient.

        With k None each sample has a step of its own, drawn from those that learn by matching. At the other steps
        teachers and critic are never compared, so the critic need not know the student there.
        """
        if k is not None:
            return state.rollout.clean(k)
        steps = range(self.settings.objective.first_matched_step(state.batch.task), self.settings.student.steps)
        return state.rollout.clean_at(self.draws.student_steps(state.batch, steps, name, *counters))

    def _forward(self, batch: Batch, z_BND: Tensor, t_B: Tensor, prefix: Prefix | None) -> StudentForward:
        prefix = prefix if prefix is not None else self._prefix(batch)
        return StudentForward(self.student.velocity(z_BND, t_B, batch.cond, prefix), prefix)

    def _prefix(self, batch: Batch) -> Prefix | None:
        """The student's prefix for its update, if that of the rollout was not kept. None: the forward computes its own.

        It is a constant if the recipe stops the prefix's gradient. Otherwise it is computed separately, with gradient,
        only if the first-step anchor evaluates the student a second time. For a single forward that costs more than it
        saves.

        With sharded weights a prefix cannot carry a gradient. FSDP gathers a block's weights for its backward pass when
        a gradient reaches the block's output. A prefix is the keys and values inside the block, not its output, so the
        weights would not be gathered.
        """
        stopped = self.settings.student.prefix_gradient == "stopped"
        if not stopped and (not self.settings.objective.anchored(batch.task) or self.student.is_sharded):
            return None
        with torch.set_grad_enabled(not stopped):
            return self.student.prefix(batch.cond)
