"""What an iteration updates: the two learning roles, and the average that is shipped."""

from dataclasses import dataclass

from fewstep.train.ema import EMA
from fewstep.train.role_optimizer import RoleOptimizer


@dataclass(frozen=True)
class Optimizers:
    """ema is of the student's weights."""

    student: RoleOptimizer
    critic: RoleOptimizer
    ema: EMA
