"""The random draws of an iteration. Each is made from a name and counters, and separately for each sample."""

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
    """The draws of a run. No draw depends on the draws before it. So a resumed run, and a run on another number of
    ranks, draws the same values."""

    rng: NamedRNG
    objective: ObjectivePlan
    backbone: Backbone

    def noise(self, batch: Batch, name: str, *counters: int) -> Tensor:
        """eps_BND, standard normal, in the shape of the target's latents, on the batch's device."""
        shape = self.backbone.noise_shape(batch.cond.layout)
        return _on_device_of(batch, self.rng.normal_per_sample(batch.samples, shape, name, *counters))

    def times(self, batch: Batch, name: str, *counters: int) -> Tensor:
        """t_B ~ p(t), one time for each sample, on the batch's device (`objective/times.py`).

        They are times that the networks can be told: z is noised at exactly what they hear (`Backbone.told_times`).
        """
        u_B = self.rng.uniform_per_sample(batch.samples, name, *counters)
        backbone = self.backbone
        shift = backbone.sampling_shift(backbone.default_steps, batch.cond.layout.target)
        return _on_device_of(batch, backbone.told_times(times(u_B, self.objective, shift)))

    def student_steps(self, batch: Batch, steps: range, name: str, *counters: int) -> Tensor:
        """One of these student steps for each sample, all equally probable. Shape (B,)."""
        drawn_B = self.rng.uniform_per_sample(batch.samples, name, *counters) * len(steps)
        return _on_device_of(batch, steps.start + drawn_B.long())

    def exit_step(self, task: Task, turn: int, steps: int) -> int:
        """k in [0, steps): the student step that the turn-th batch of a task improves.

        It is one step for the whole batch, and the same on every rank. A step drawn per rank would make ranks run
        different numbers of forwards, and with sharded weights they would wait for each other forever.

        Turns are grouped by `steps`, and each group improves every step once. So all rows of the teacher plan count
        equally. The order within a group is drawn. In a fixed order (k = iteration mod steps) a category that returns
        with the same period would meet only some of the steps.
        """
        order = self.rng.uniform((steps,), f"exit steps {task}", turn // steps).argsort()
        return int(order[turn % steps])


def _on_device_of(batch: Batch, drawn: Tensor) -> Tensor:
    return to_device(drawn, batch.cond.text_BLC.device)
