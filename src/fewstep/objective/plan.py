"""Numbers of the objective."""

from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fewstep.runtime.section import Section
from fewstep.runtime.shift_key import Shift, read_shift
from fewstep.runtime.task import Task


class FirstStepAnchorPlan(Section):
    """Regression of the student's first step on the teacher's trajectory, in place of distribution matching."""

    weight: float = Field(0.05, gt=0, description="of its loss beside matching (field: DP-DMD)")
    teacher_steps: int = Field(
        5,
        gt=0,
        le=1000,
        description="K: steps of the teacher from pure noise to the student's second noise level (ours)",
    )
    detach: bool = Field(
        True, description="matching improves the other steps alone (field: DP-DMD); false: the first step too"
    )
    tasks: tuple[Task, ...] = Field(
        ("t2i", "edit"),
        min_length=1,
        description="whose first step is anchored; matching has every step of the others",
    )


class SegmentGuidancePlan(Section):
    """Regression of the student's velocity on the teacher's mean velocity over the segment of the same step."""

    weight: float = Field(0.25, gt=0, description="of its loss beside matching (ours)")
    teacher_steps: int = Field(
        4, gt=0, le=1000, description="steps of the teacher over one segment of the student's grid (ours)"
    )


class ObjectivePlan(Section):
    """Distribution matching: at which times it compares, and how its gradient is scaled."""

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
    time_shift: Shift = Field(
        1.0,
        description="shift a of t' = a t / (1 + (a - 1) t); 1 is none; teacher: as its pipeline shifts its levels "
        "at each batch's size, in the number of steps that its makers take (field: ThakiCloud)",
    )

    first_step_anchor: FirstStepAnchorPlan | None = Field(
        None, description="off unless given; steadies structure and costs visual quality (paper: a failed attempt)"
    )
    segment_guidance: SegmentGuidancePlan | None = Field(
        None, description="off unless given; against ghosting and layout drift (field: Viggle)"
    )
    decoupled_guidance: bool = Field(
        False,
        description="what a guided teacher's guidance adds is taken at t uniform below the student's noise level, "
        "matching at all levels without it (field: Decoupled DMD); a forward more each guided teacher",
    )

    preservation: float = Field(
        0.0,
        ge=0,
        description="weight of a regression on the teachers where they leave the source of an edit as it is (ours); "
        "0: off. One more forward of the teachers in iterations of edits",
    )

    @field_validator("time_shift", mode="before")
    @classmethod
    def _shift(cls, given: Any) -> Any:
        return read_shift(given, "objective.time_shift")

    def anchored(self, task: Task) -> bool:
        """Whether the first step of a task is anchored."""
        return self.first_step_anchor is not None and task in self.first_step_anchor.tasks

    def first_matched_step(self, task: Task) -> int:
        """The first student step that learns by distribution matching at a task: 1 behind a detached anchor, else 0."""
        return int(self.anchored(task) and self.first_step_anchor is not None and self.first_step_anchor.detach)

    def refuse_idle_terms(self, tasks: Collection[Task]) -> None:
        """
        Args:
            tasks: of the recipe.

        Raises:
            ValueError: a term that would never have a value.
        """
        if self.preservation and "edit" not in tasks:
            raise ValueError(
                "objective.preservation is about what edits leave alone, and this recipe has none; set it to 0, or "
                "give tasks.edit a share"
            )

    @model_validator(mode="after")
    def _ordered(self) -> "ObjectivePlan":
        if self.time_low >= self.time_high:
            raise ValueError(f"time_low {self.time_low} must lie below time_high {self.time_high}")
        return self
