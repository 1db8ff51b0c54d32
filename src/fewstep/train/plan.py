"""Numbers of a run."""

from typing import Any, Literal

from pydantic import Field, field_validator

from fewstep.plan import Plan


class RunPlan(Plan):
    """How long, on what, and what is kept on the way."""

    iterations: int = Field(150, gt=0, description="student updates (paper: 2,000; ours on the pocket teacher: 150)")
    seed: int = Field(0, description="of every random draw")
    batch: int = Field(64, gt=0, description="samples per iteration, over all ranks")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="of forwards; weights that learn stay fp32")
    base_weights: Literal["precision", "int8"] = Field(
        "precision",
        description="how the frozen base is held. precision: in that of the run; int8: its blocks in a byte a weight, "
        "for student and critic of mode adapter. Every role over the base then sees the rounded one, the teacher too",
    )
    save_every_iterations: int = Field(
        25, gt=0, description="checkpoints; a killed run loses at most so many iterations"
    )
    keep_checkpoints: int = Field(3, gt=0, description="newest checkpoints that are kept, beside the best")
    keep_best: int = Field(1, gt=0, description="best checkpoints by best_by that are kept, beside the newest")
    sample_every_iterations: int = Field(25, ge=0, description="pictures of fixed prompts and noise; 0 for none")
    examine_every_iterations: int = Field(25, ge=0, description="figures of the examiner; 0 for none")
    best_by: str | None = Field(None, description="the examiner's figure that decides which checkpoint is the best")
    best_is: Literal["highest", "lowest"] = Field("highest", description="which value of best_by is the best")
    max_skipped_updates: int = Field(10, ge=0, description="updates skipped as not finite before the run stops")
    gradient_checkpointing: Literal["off", "selective", "full"] = Field(
        "off",
        description="what the backward pass computes again. off: nothing; selective: all but large products and "
        "attention; full (or true): whole blocks: least memory, about a third more time",
    )

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _yes_or_no(cls, given: Any) -> Any:
        """What recipes said before there was a choice."""
        return {True: "full", False: "off"}[given] if isinstance(given, bool) else given
