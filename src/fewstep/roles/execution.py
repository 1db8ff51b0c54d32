"""How the networks of a run are executed. Nothing here changes what they learn, apart from rounding."""

from collections.abc import Mapping
from dataclasses import dataclass

from fewstep.roles.plan import Recomputation
from fewstep.roles.sharding import REPLICATED, Placement
from fewstep.runtime.task import TASKS, Task


@dataclass(frozen=True)
class Execution:
    """
    Args:
        precision: of matrix products: fp32, or bf16 by autocast over fp32 master weights.
        gradient_checkpointing: which activations are computed again in the backward pass; of both tasks, or of each.
        compile: whether transformer blocks are compiled.
        placement: how the weights of the base, of full copies and of resident teachers are placed on the ranks.
            Adapters are always replicated.
    """

    precision: str = "fp32"
    gradient_checkpointing: Recomputation | Mapping[Task, Recomputation] = "off"
    compile: bool = False
    placement: Placement = REPLICATED

    def recomputation(self, task: Task) -> Recomputation:
        """What the backward passes of a task compute again."""
        given = self.gradient_checkpointing
        return given if isinstance(given, str) else given.get(task, "off")

    @property
    def recomputation_by_task(self) -> Mapping[Task, Recomputation]:
        return {task: self.recomputation(task) for task in TASKS}
