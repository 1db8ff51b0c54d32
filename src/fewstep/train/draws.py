"""The random draws of an iteration: each by name and number, each sample's its own."""

from dataclasses import dataclass

from torch import Tensor

from fewstep.backbones.backbone import Backbone
from fewstep.encode.batch import Batch
from fewstep.flow.rng import NamedRNG
from fewstep.objective.plan import ObjectivePlan
from fewstep.objective.times import times
from fewstep.runtime.device import to_device
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class Draws:
    """A resumed run and another number of ranks draw the same, because nothing depends on what was drawn before."""

    rng: NamedRNG
    objective: ObjectivePlan
    backbone: Backbone

    def noise(self, batch: Batch, name: str, *counters: int) -> Tensor:
        """eps_BND, standard normal in the target's shape."""
        shape = self.backbone.noise_shape(batch.cond.layout)
        return _on_device_of(batch, self.rng.normal_per_sample(batch.samples, shape, name, *counters))

    def times(self, batch: Batch, name: str, *counters: int) -> Tensor:
        """t_B ~ p(t)."""
        u_B = self.rng.uniform_per_sample(batch.samples, name, *counters)
        return _on_device_of(batch, times(u_B, self.objective))

    def student_steps(self, batch: Batch, steps: range, name: str, *counters: int) -> Tensor:
        """For each sample one of these student steps, all alike probable: (B,)."""
        drawn_B = self.rng.uniform_per_sample(batch.samples, name, *counters) * len(steps)
        return _on_device_of(batch, steps.start + drawn_B.long())

    def exit_step(self, task: Task, turn: int, steps: int) -> int:
        """The student step that the turn-th batch of a task improves; the same on every rank.

        Any `steps` batches of a task, from a multiple of `steps` on, improve each step once, so that every row of the
        teacher plan counts alike. Their order is drawn: in a fixed one (iteration mod steps, say) tasks or categories
        that come round with the same period would only ever meet some of the steps.
        """
        order = self.rng.uniform((steps,), f"exit steps {task}", turn // steps).argsort()
        return int(order[turn % steps])


def _on_device_of(batch: Batch, drawn: Tensor) -> Tensor:
    return to_device(drawn, batch.cond.text_BLC.device)
