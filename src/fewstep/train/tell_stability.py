"""Says when training becomes unstable and when it is stable again: one line each, and an event on record."""

import math
from collections.abc import Mapping
from typing import Any

from fewstep.roles.plan import RolePlan
from fewstep.runtime.reporter import Reporter
from fewstep.train.checkpoint import Checkpoints
from fewstep.train.metrics import MetricsLog
from fewstep.train.settings import DMDSettings
from fewstep.train.stability import Excess, StabilityChange, StabilityWatch

UNSTABLE, STABLE_AGAIN = "unstable", "stable_again"  # kinds of event
NAMES: Mapping[str, str] = {
    "critic_loss": "the critic's loss",
    "critic_norm": "the norm of the critic's gradient",
    "student_norm": "the norm of the student's gradient",
}
CALM_TARGETS = ("attention", "attention+mlp")


class StabilityTeller:
    """For the first rank, whose records it reads and writes."""

    def __init__(self, settings: DMDSettings, metrics: MetricsLog, checkpoints: Checkpoints, reporter: Reporter):
        self.settings, self.metrics, self.checkpoints, self.reporter = settings, metrics, checkpoints, reporter
        self.watch = StabilityWatch()

    def go_on(self) -> None:
        """Takes over what the records of a resumed run tell."""
        self.watch.replay(self.metrics.lines())

    def look(self, i: int, line: Mapping[str, Any]) -> None:
        """Takes what iteration i wrote, and tells what has changed with it."""
        if (change := self.watch.add(i, line)) is None:
            return
        kind = UNSTABLE if change.unstable else STABLE_AGAIN
        words = self._unstable_words(change) if change.unstable else _stable_words(change)
        answer = "warn" if change.unstable else "none"
        self.metrics.append(
            "event", i, {"kind": kind, "words": words, "values": _values(change.worst), "answer": answer}
        )
        told = f"after {i + 1} iterations: {kind.replace('_', ' ')}: {words}"
        self.reporter.say(told, "warning" if change.unstable else "note")

    def _unstable_words(self, change: StabilityChange) -> str:
        excesses = ", ".join(_excess_words(name, excess) for name, excess in change.worst.items())
        return f"since iteration {change.since} {excesses}. {self._remedies(change)}"

    def _remedies(self, change: StabilityChange) -> str:
        roles = {name.partition("_")[0] for name in change.worst}
        plans = {role: plan for role, plan in self._plans().items() if role in roles}
        rates = " ".join(f"--set {role}.learning_rate={plan.learning_rate / 2:g}" for role, plan in plans.items())
        now = " and ".join(f"{plan.learning_rate:g}" for plan in plans.values())
        before = [n for n in self.checkpoints.complete_iterations() if n <= change.since]
        fork = f"go on from before it, --fork RUN@{max(before)} while that is kept," if before else "begin anew"
        calmer = "".join(map(_targets, plans.items()))
        return f"If it lasts, or pictures get worse: {fork} with lower rates, {rates} (now {now}){calmer}"

    def _plans(self) -> dict[str, RolePlan]:
        return {"critic": self.settings.critic, "student": self.settings.student}


def _targets(named: tuple[str, RolePlan]) -> str:
    role, plan = named
    if plan.mode != "adapter" or plan.adapter.targets in CALM_TARGETS:
        return ""
    return f"; or a new run with {role}.adapter.targets=attention+mlp, which is calmer"


def _stable_words(change: StabilityChange) -> str:
    worst = ", ".join(
        f"{NAMES[name]} was up to {_times(excess)} that (iteration {excess.iteration})"
        for name, excess in change.worst.items()
    )
    return (
        f"since iteration {change.since} losses and gradients are at their usual values; {worst}. `fewstep rank RUN` "
        "says whether students from before are better"
    )


def _excess_words(name: str, excess: Excess) -> str:
    if excess.value is None:
        return f"{NAMES[name]} is not finite (usual: {excess.level:.3g})"
    return f"{NAMES[name]} is {excess.value:.3g}, {_times(excess)} its usual {excess.level:.3g}"


def _times(excess: Excess) -> str:
    return "infinitely many times" if math.isinf(excess.times) else f"{excess.times:,.0f} times"


def _values(worst: Mapping[str, Excess]) -> dict[str, float]:
    """What is finite of it: JSON has no infinity."""
    figures = {f"{name}_level": excess.level for name, excess in worst.items()}
    figures |= {name: excess.value for name, excess in worst.items() if excess.value is not None}
    return figures
