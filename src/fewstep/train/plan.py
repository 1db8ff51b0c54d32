"""Numbers of a run."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fewstep.data.batch_slice import refuse_few_samples
from fewstep.roles.plan import Recomputation
from fewstep.runtime.base_weight_kinds import BaseWeights
from fewstep.runtime.section import Section
from fewstep.runtime.task import TASKS, Task

MOST_ITERATIONS = 1_000_000  # ours: 500 times the paper's; beyond it a number is a slip
MOST_SAMPLES = 65_536  # ours
AUTO = "auto"
# Keys whose `auto` is chosen for a GPU's memory, and what it stands for where that is not known.
AUTO_OF_MEMORY: Mapping[str, Any] = {"gradient_checkpointing": "full", "blocks_to_swap": 0}
LEAST_SWAPPED = 3  # of blocks: one that runs and one that is fetched are on the device all the time


class RunPlan(Section):
    """How long a run takes, on which hardware, and what it keeps."""

    iterations: int = Field(
        150, gt=0, le=MOST_ITERATIONS, description="student updates (paper: 2,000; ours on the pocket teacher: 96)"
    )
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="of every random draw")
    batch: int = Field(64, gt=0, le=MOST_SAMPLES, description="samples per iteration, over all ranks")
    gradient_accumulation: int | dict[Task, int] = Field(
        1,
        description="parts of each rank's share of a batch that are run through one after another, for one update: "
        "memory is that of one part. A number for both tasks, or one for each",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="of forwards; weights that learn stay fp32. auto: bf16 on a GPU, and on a CPU what is faster there",
    )
    base_weights: BaseWeights = Field(
        "precision",
        description="how the frozen base is held. precision: in that of the run; int8: its blocks in a byte a weight, "
        "for student and critic of mode adapter. Every role over the base then sees the rounded one, the teacher too. "
        "int8-w8a8, fp8-w8a8: so, and products of 1,024 rows or more in these numbers too, for time; on "
        "NVIDIA's GPUs int8 needs compute capability 7.5 and fp8 8.9",
    )
    blocks_to_swap: int | Literal["auto"] = Field(
        0,
        description="blocks of the frozen base that wait in host memory and come to the device one ahead of their use, "
        "two at a time (field: kohya, musubi-tuner). For student and critic of mode adapter, with "
        "gradient_checkpointing full, selective or auto. auto: the fewest with which the run fits the GPU, by "
        "`fewstep plan`; 0 on a CPU",
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
    gradient_checkpointing: Literal["auto", "off", "selective", "full"] | dict[Task, Recomputation] = Field(
        "off",
        description="what the backward pass computes again. off: nothing; selective: all but large products and "
        "attention; full (or true): whole blocks: least memory, about a third more time. One for both tasks, or one "
        "for each. auto: for each task what costs least and fits the GPU, by `fewstep plan`; gradient_accumulation "
        "then is the least number of parts",
    )
    compile: bool = Field(
        False, description="torch.compile of the transformers' blocks: minutes once, then faster; needs a compiler"
    )

    def recomputation(self, task: Task) -> Recomputation:
        """What the backward passes of a task compute again.

        Raises:
            ValueError: `auto` is not settled yet.
        """
        given = self.gradient_checkpointing
        if isinstance(given, dict):
            return given.get(task, "off")
        if given == "auto":
            raise ValueError("run.gradient_checkpointing is auto, and was not settled")
        return given

    @property
    def recomputation_by_task(self) -> dict[Task, Recomputation]:
        return {task: self.recomputation(task) for task in TASKS}

    @property
    def auto_of_memory(self) -> tuple[str, ...]:
        """The keys whose `auto` waits to be chosen for a GPU's memory."""
        return tuple(key for key in AUTO_OF_MEMORY if getattr(self, key) == AUTO)

    @property
    def swapped_blocks(self) -> int:
        """The number of the base's blocks in host memory.

        Raises:
            ValueError: `auto` is not settled yet.
        """
        if isinstance(self.blocks_to_swap, str):
            raise ValueError("run.blocks_to_swap is auto, and was not settled")
        return self.blocks_to_swap

    def parts(self, task: Task) -> int:
        """Into how many parts batches of a task are cut."""
        given = self.gradient_accumulation
        return given.get(task, 1) if isinstance(given, dict) else given

    @property
    def most_parts(self) -> int:
        """Of any task."""
        return max(map(self.parts, TASKS))

    def of_task(self, task: Task) -> Self:
        """The same with one number of parts and one recomputation: those of the task."""
        alone = {"gradient_accumulation": self.parts(task), "gradient_checkpointing": self.recomputation(task)}
        return self.model_copy(update=alone)

    @field_validator("gradient_accumulation")
    @classmethod
    def _parts_in_range(cls, given: int | dict[Task, int]) -> int | dict[Task, int]:
        for task, parts in given.items() if isinstance(given, dict) else ((None, given),):
            if not 0 < parts <= MOST_SAMPLES:
                where = "" if task is None else f" of {task}"
                raise ValueError(
                    f"run.gradient_accumulation{where} should be from 1 to {MOST_SAMPLES:,}, not {parts!r:.60}"
                )
        return given

    @field_validator("gradient_accumulation", "gradient_checkpointing")
    @classmethod
    def _of_some_task(cls, given: Any) -> Any:
        if given == {}:
            raise ValueError("a value for each task has at least one: {t2i: ..., edit: ...}")
        return given

    @model_validator(mode="after")
    def _enough_samples(self) -> "RunPlan":
        refuse_few_samples(self.batch, 1, self.most_parts)
        return self

    @model_validator(mode="after")
    def _examined_where_examinations_decide(self) -> "RunPlan":
        if self.best_by is not None and self.examine_every_iterations == 0:
            raise ValueError(
                f"run.best_by is {self.best_by!r:.60}, but run.examine_every_iterations is 0: nothing would be "
                "examined. Set one of them, or run.best_by: null"
            )
        return self

    @model_validator(mode="after")
    def _swapped_blocks_can_wait(self) -> "RunPlan":
        if self.blocks_to_swap:
            refuse_swap(self)
        return self

    @field_validator("blocks_to_swap", mode="before")
    @classmethod
    def _number_or_auto(cls, given: Any) -> Any:
        """One message for both kinds of value."""
        try:
            number = -1 if isinstance(given, bool) else int(given)
        except (TypeError, ValueError, OverflowError):
            number = -1
        if given == AUTO or (number >= 0 and (number == given or isinstance(given, str))):
            return given
        raise ValueError(f"run.blocks_to_swap should be auto, or a whole number from 0 on; not {given!r:.60}")

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _yes_or_no(cls, given: Any) -> Any:
        """Accepts true and false, which recipes used before there were more choices."""
        if isinstance(given, dict):
            return {task: cls._yes_or_no(one) for task, one in given.items()}
        return {True: "full", False: "off"}[given] if isinstance(given, bool) else given


def refuse_swap(run: RunPlan) -> None:
    """Refuses what does not go together with `blocks_to_swap`.

    Raises:
        ValueError: it saves nothing, or would.
    """
    said = f"run.blocks_to_swap is {run.blocks_to_swap}"
    if isinstance(run.blocks_to_swap, int) and run.blocks_to_swap < LEAST_SWAPPED:
        raise ValueError(
            f"{said}, which saves nothing: two swapped blocks are on the device at a time. Give {LEAST_SWAPPED} or "
            "more, or 0 to keep all of them there"
        )
    if run.sharding != "off":
        raise ValueError(
            f"{said}, which is for weights that lie whole on each GPU, and run.sharding is {run.sharding}. Set one of "
            "the two back: run.sharding: off, or run.blocks_to_swap: 0"
        )
    if run.compile:
        raise ValueError(
            f"{said}, and run.compile is true: compiled blocks cannot fetch their weights. Set run.compile: false, or "
            "run.blocks_to_swap: 0"
        )
    if run.gradient_checkpointing != AUTO and "off" in run.recomputation_by_task.values():
        raise ValueError(
            f"{said}, and with run.gradient_checkpointing: off every block's weights would stay for its backward "
            "pass. Set it to full, selective or auto, or run.blocks_to_swap: 0"
        )
