"""The iteration and the student step for which a teacher is evaluated."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepIndex:
    """Student step k (0 is the noisiest) of iteration `iteration`. lambda_{k,m}(c) depends on k, its ramp on the
    iteration."""

    iteration: int
    k: int
