"""The inputs and outputs of an extra term of the student's loss."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fewstep.backbones.backbone import Prefix
from fewstep.encode.batch import Batch
from fewstep.objective.rollout import Rollout
from fewstep.roles.step_index import StepIndex
from fewstep.roles.teachers import Prefixes


@dataclass(frozen=True)
class LossInputs:
    """What an iteration has computed when the student's loss is formed.

    Args:
        v_BND, x0_BND: the student's velocity and clean estimate at step at.k, with gradient.
        prefix: the student's prefix from which they were computed; None if it was not computed separately.
        prefixes: the prefixes that teachers keep of this batch.
    """

    at: StepIndex
    batch: Batch
    rollout: Rollout
    v_BND: Tensor
    x0_BND: Tensor
    prefix: Prefix | None
    prefixes: Prefixes


ExtraLoss = Callable[[LossInputs], tuple[Tensor, dict[str, Tensor]]]
"""Returns the term, multiplied by its weight, and figures to record. It has no side effects."""
