"""What an iteration updates: student, critic, and the student's moving average, which is shipped."""

from dataclasses import dataclass

from fewstep.train.ema import EMA
from fewstep.train.role_optimizer import RoleOptimizer


@dataclass(frozen=True)
class Optimizers:
    """The optimizers of both learning roles, and the moving average of the student's weights."""

    student: RoleOptimizer
    critic: RoleOptimizer
    ema: EMA
