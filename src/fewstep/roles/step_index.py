"""Where a run stands when a teacher is asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepIndex:
    """Student step k (0 is the noisiest) of iteration `iteration`: what lambda_{k,m}(c) and its ramp depend on."""

    iteration: int
    k: int
