"""What was counted of an iteration of one task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fewstep.roles.plan import Recomputation
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.op_counter import NetworkCall, Phase


@dataclass(frozen=True)
class TaskForecast:
    """One iteration of a task on one GPU, at the student's last step.

    Args:
        parts: the number of parts into which the samples are cut.
        rehearsed: the number of samples in the rehearsal.
        phases: those of the rehearsal, with what is held for all parts.
        calls: forwards of each role, in the mean over exit steps.
        skipped_steps: steps of a rollout that are not run, in the mean over exit steps.
        rollouts: rollouts in the rehearsal, of one update of the critic.
        more_rollouts: rollouts of the critic's further updates.
        recomputation: what its backward passes compute again.
    """

    batch_shape: BatchShape
    samples: int
    parts: int
    rehearsed: int
    phases: tuple[Phase, ...]
    calls: Mapping[str, float]
    updates: int
    skipped_steps: float
    rollouts: int = 1
    more_rollouts: int = 0
    recomputation: Recomputation = "off"

    @property
    def at_once(self) -> int:
        """Samples of the largest part."""
        return -(-self.samples // self.parts)

    @property
    def peak(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def flops(self) -> int:
        """Floating-point operations of the mean iteration. Only one update of the critic is rehearsed, all rollouts are
        alike, and so are all steps of one."""
        update = max(phase.flops for phase in self.phases if phase.name == "critic")  # the fake score is a forward
        rollout = sum(phase.flops for phase in self.phases if phase.name == "rollout") / self.rollouts
        step = sum(phase.last_call for phase in self.phases if phase.name == "rollout") / self.rollouts
        every = sum(phase.flops for phase in self.phases) + (self.updates - 1) * update + self.more_rollouts * rollout
        every -= (self.rollouts + self.more_rollouts) * self.skipped_steps * step
        return round(every * self.samples / self.rehearsed)

    def passes(self) -> Iterator[tuple[NetworkCall, float]]:
        """Each call of a network, and how often it happens in the mean iteration: counted as `flops` is."""
        parts, rollouts = self.samples / self.rehearsed, self.rollouts + self.more_rollouts
        update = max((phase.flops for phase in self.phases if phase.name == "critic"), default=0)
        for phase in self.phases:
            times = parts
            if phase.name == "rollout":
                times *= rollouts / self.rollouts
            elif phase.name == "critic" and phase.flops == update:
                times *= self.updates
            yield from ((call, times) for call in phase.by_call)
            if phase.name == "rollout" and phase.by_call:
                yield phase.by_call[-1], -parts * rollouts / self.rollouts * self.skipped_steps
