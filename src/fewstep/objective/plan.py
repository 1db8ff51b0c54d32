"""Numbers of the objective."""

from typing import Literal

from pydantic import Field, model_validator

from fewstep.plan import Plan


class ObjectivePlan(Plan):
    """Distribution matching: which times it looks at, and how its gradient is scaled."""

    normaliser_floor: float = Field(
        0.05,
        gt=0,
        description="least value of mean|x0 - x0_real| that a sample's gradient is divided by; at low t with a "
        "reference image it would vanish (field: Model-Optimizer)",
    )
    time_low: float = Field(0.02, gt=0, lt=1, description="lowest time before the shift (field: DMD2)")
    time_high: float = Field(0.98, gt=0, lt=1, description="highest time before the shift (field: DMD2)")
    time_distribution: Literal["uniform", "logit-normal"] = Field(
        "uniform", description="how times are drawn between time_low and time_high"
    )
    time_shift: float = Field(
        1.0, gt=0, description="shift a of t' = a t / (1 + (a - 1) t); 1 is none, the teacher's own is usual"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ObjectivePlan":
        if self.time_low >= self.time_high:
            raise ValueError(f"time_low {self.time_low} must lie below time_high {self.time_high}")
        return self
