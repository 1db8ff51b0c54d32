"""What a further term of the student's loss is given, and what it answers."""

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
    """What an iteration has at hand when the student's loss is formed.

    v_BND, x0_BND: the student's velocity and clean estimate at step at.k, with gradient. prefix: what they were made
    from, where that was made apart. prefixes: what the teachers keep of this batch.
    """

    at: StepIndex
    batch: Batch
    rollout: Rollout
    v_BND: Tensor
    x0_BND: Tensor
    prefix: Prefix | None
    prefixes: Prefixes


ExtraLoss = Callable[[LossInputs], tuple[Tensor, dict[str, Tensor]]]
"""The term, with its weight in it, and figures for the record. It touches no optimizer, no device and no log."""
