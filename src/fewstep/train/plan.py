"""Numbers of a run."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fewstep.data.batch_slice import refuse_few_samples
from fewstep.runtime.section import Section

MOST_ITERATIONS = 1_000_000  # ours: 500 times the paper's; beyond it a number is a slip
MOST_SAMPLES = 65_536  # ours


class RunPlan(Section):
    """How long a run takes, on which hardware, and what it keeps."""

    iterations: int = Field(
        150, gt=0, le=MOST_ITERATIONS, description="student updates (paper: 2,000; ours on the pocket teacher: 192)"
    )
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="of every random draw")
    batch: int = Field(64, gt=0, le=MOST_SAMPLES, description="samples per iteration, over all ranks")
    gradient_accumulation: int = Field(
        1,
        gt=0,
        le=MOST_SAMPLES,
        description="parts of each rank's share of a batch that are run through one after another, for one update: "
        "memory is that of one part",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="of forwards; weights that learn stay fp32. auto: bf16 on a GPU, and on a CPU what is faster there",
    )
    base_weights: Literal["precision", "int8"] = Field(
        "precision",
        description="how the frozen base is held. precision: in that of the run; int8: its blocks in a byte a weight, "
        "for student and critic of mode adapter. Every role over the base then sees the rounded one, the teacher too",
    )
    save_every_iterations: int = Field(
        25, gt=0, description="checkpoints; a killed run loses at most so many iterations"
    )
    keep_checkpoints: int = Field(3, gt=0, description="newest checkpoints that are kept, beside the best")
    keep_students: bool = Field(
        True, description="the averaged student of every save stays, also when its checkpoint is deleted"
    )
    keep_best: int = Field(1, gt=0, description="best checkpoints by best_by that are kept, beside the newest")
    sample_every_iterations: int = Field(25, ge=0, description="pictures of fixed prompts and noise; 0 for none")
    examine_every_iterations: int = Field(25, ge=0, description="figures of the examiner; 0 for none")
    best_by: str | None = Field(None, description="the examiner's figure that decides which checkpoint is the best")
    best_is: Literal["highest", "lowest"] = Field("highest", description="which value of best_by is the best")
    max_skipped_updates: int = Field(10, ge=0, description="updates skipped as not finite before the run stops")
    sharding: Literal["off", "full", "hybrid"] = Field(
        "off",
        description="of weights over the GPUs of a torchrun (FSDP2). off: whole on each; full: each holds a part of "
        "every block, and gathers a block while it runs; hybrid: full inside a machine, copies between machines "
        "(HSDP). Adapters are whole on each. On one GPU it changes nothing",
    )
    gradient_checkpointing: Literal["off", "selective", "full"] = Field(
        "off",
        description="what the backward pass computes again. off: nothing; selective: all but large products and "
        "attention; full (or true): whole blocks: least memory, about a third more time",
    )
    compile: bool = Field(
        False, description="torch.compile of the transformers' blocks: minutes once, then faster; needs a compiler"
    )

    @model_validator(mode="after")
    def _enough_samples(self) -> "RunPlan":
        refuse_few_samples(self.batch, 1, self.gradient_accumulation)
        return self

    @model_validator(mode="after")
    def _examined_where_examinations_decide(self) -> "RunPlan":
        if self.best_by is not None and self.examine_every_iterations == 0:
            raise ValueError(
                f"run.best_by is {self.best_by!r:.60}, but run.examine_every_iterations is 0: nothing would be "
                "examined. Set one of them, or run.best_by: null"
            )
        return self

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _yes_or_no(cls, given: Any) -> Any:
        """Accepts true and false, which recipes used before there were more choices."""
        return {True: "full", False: "off"}[given] if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _recomputed_or_compiled(self) -> "RunPlan":
        if self.compile and self.gradient_checkpointing == "selective":
            raise ValueError(
                "compiled blocks have no single operations to choose from, and compute again what is cheap on their "
                "own; with run.compile set run.gradient_checkpointing to off or full"
            )
        return self
