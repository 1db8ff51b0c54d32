"""Numbers of the three roles: student, critic, teachers."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fewstep.flow.guidance import Guidance, NormRule
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.section import Section
from fewstep.runtime.shift_key import TEACHER, Shift, read_shift
from fewstep.runtime.task import Task

Recomputation = Literal["off", "selective", "full"]  # of activations, in the backward pass (roles/recomputation.py)

Mode = Literal["adapter", "full"]
PrefixGradient = Literal["full", "stopped"]
Preset = Literal["base-only", "specialised-alone", "last-step-only", "step-wise", "constant", "adaptive"]
Residency = Literal["resident", "offloaded", "swapped"]
Targets = Literal["attention", "attention+mlp", "all"] | tuple[str, ...]
PullResponse = Literal["warn", "halve", "stop"]

MOST_STEPS = 1000  # ours: as many as the teachers' schedulers have levels
MOST_WARM_UP = 100_000  # ours: 2,000 times the field's
DEFAULT_SHIFT = 3.0  # field: Qwen-Image-Lightning

_PREFIX_GRADIENT = (
    "full: one plain forward with gradient; stopped: text and references are computed without gradient and count as "
    "constants (2-3 times faster, gradient cosine about .95 to the full one)"
)


class AdapterPlan(Section):
    """A LoRA (arXiv 2106.09685): W x + (alpha / rank) B A x."""

    rank: int = Field(
        32, gt=0, le=16_384, description="inner width of the adapter (field: 64, 128..256 for T2I + edit)"
    )
    alpha: float = Field(32.0, gt=0, description="the adapter is scaled by alpha / rank")
    targets: Targets = Field(
        default="attention+mlp",
        description="layers that it changes. attention, attention+mlp: of all blocks; all: every linear layer, "
        "modulation and time embedding too (field: Viggle, Turbo8); or patterns of names, such as [to_q, img_mod.*]",
    )

    @field_validator("targets")
    @classmethod
    def _some(cls, targets: Targets) -> Targets:
        if isinstance(targets, tuple) and not (targets and all(targets)):
            raise ValueError("adapter.targets holds no pattern; give attention, attention+mlp, all or names of layers")
        return targets


class RolePlan(Section):
    """How one network learns: AdamW (arXiv 1711.05101) on fp32 master weights."""

    mode: Mode = Field("adapter", description="adapter: a LoRA over the frozen base; full: a copy of all weights")
    adapter: AdapterPlan = Field(default=AdapterPlan(rank=32, alpha=32.0), description="the LoRA of mode adapter")
    learning_rate: float = Field(gt=0, le=1, description="AdamW step size")
    lr_warmup: int = Field(
        0,
        ge=0,
        le=MOST_WARM_UP,
        description="iterations over which the step size rises linearly to learning_rate (field: diffusers' "
        "lr_warmup_steps); the critic's begin with its critic-only ones",
    )
    cooldown: float = Field(
        0.0, ge=0, le=1, description="share of the run, at its end, over which the step size falls linearly to 0"
    )
    betas: tuple[float, float] = Field((0.0, 0.999), description="AdamW momenta (field: DMD2)")
    weight_decay: float = Field(0.0, ge=0, le=1, description="AdamW weight decay")
    clip: float = Field(1.0, gt=0, description="largest gradient norm (field: DMD2)")
    prefix_gradient: PrefixGradient = Field("full", description=_PREFIX_GRADIENT)

    @field_validator("betas")
    @classmethod
    def _momenta(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas lie in [0, 1), not {list(betas)}")
        return betas


class StudentPlan(RolePlan):
    """The network that is shipped, and the grid it is shipped with."""

    init_from: str | None = Field(
        None,
        description="a LoRA to start from: file or folder (diffusers, peft, ComfyUI or kohya keys). It "
        "becomes the adapter, cut down to adapter.rank where it is wider, or is merged into the copy of mode full; the "
        "critic starts as the base",
    )
    steps: int = Field(4, gt=0, le=MOST_STEPS, description="network evaluations per picture (paper: 4)")
    shift: Shift | None = Field(
        None,
        description="static shift of the grid, 3 unless sigmas are given: 1, .9, .75, .5 (field: Lightning); teacher: "
        "the one that the base's stock pipeline has at the recipe's size in so many steps",
    )
    sigmas: tuple[float, ...] | None = Field(
        None,
        description="the grid as a list instead, strictly decreasing in (0, 1], closing 0 implied. Beside shift: "
        "teacher it is what that stood for when the run began, and is written by it",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="AdamW step size (field: 1e-5..5e-5 at 7 B)")
    ema: float = Field(
        0.98,
        ge=0,
        lt=1,
        description="decay of the averaged student that is shipped, after a warm-up min(ema, i / (c - 1 + i)) over "
        "updates i from 0, where c is ema_warmup; 0 ships the raw one",
    )
    ema_warmup: float = Field(
        10.0,
        gt=1,
        le=1e6,
        description="c of that rise: while it lasts, the average's mean age is about 1 / c of all updates so far, and "
        "with 2 it is the plain mean (field: 10 in TensorFlow and diffusers)",
    )
    forward_once: bool = Field(
        False,
        description="the step that is improved is run once, with its gradient, in the rollout: a forward less, and its "
        "activations are held through the critic's updates",
    )

    @field_validator("shift", mode="before")
    @classmethod
    def _shift(cls, given: Any) -> Any:
        return None if given is None else read_shift(given, "student.shift")

    @model_validator(mode="before")
    @classmethod
    def _default_shift(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("sigmas") is None and given.get("shift") is None:
            return {**given, "shift": DEFAULT_SHIFT}
        return given

    @model_validator(mode="after")
    def _one_grid(self) -> Self:
        if self.sigmas is not None and self.shift not in (None, TEACHER):
            raise ValueError("student.sigmas and student.shift exclude each other: set the other one to null")
        if self.sigmas is not None and len(self.sigmas) != self.steps:
            raise ValueError(f"student.steps is {self.steps} but student.sigmas has {len(self.sigmas)} entries")
        if self.is_settled:
            self.grid  # noqa: B018 - a grid that cannot be is refused here
        return self

    @property
    def is_settled(self) -> bool:
        """Whether the grid is known: not while `shift: teacher` still waits for the model (`run/levels.py`)."""
        return self.sigmas is not None or self.shift != TEACHER

    @property
    def grid(self) -> SigmaGrid:
        """The ONE grid of rollout, sampler and export."""
        if self.sigmas is not None:
            return SigmaGrid.of(self.sigmas)
        assert isinstance(self.shift, float), "shift: teacher is settled first"
        return SigmaGrid.static(self.steps, self.shift)


class CriticPlan(RolePlan):
    """The network that learns the student's distribution."""

    learning_rate: float = Field(2e-3, gt=0, le=1, description="AdamW step size (field: 1..2 times the student's)")
    updates: int = Field(
        2,
        gt=0,
        le=1000,
        description="updates per student update (field: 5 in DMD2, each on a new batch; 3 on small budgets)",
    )
    exit_step: Literal["same", "drawn"] = Field(
        "same",
        description="which of the student's steps the critic learns from. same: the one about to be improved; drawn: "
        "any, by sample (DMD2). Drawn, the critic knows the steps' mixture alone, which can match the teacher while no "
        "single step does (ours: seen on Gaussian worlds)",
    )
    order: Literal["critic-first", "student-first"] = Field(
        "critic-first",
        description="of an iteration's updates. critic-first: the critic has learnt the rollout that it is asked "
        "about; student-first: it is asked before it learns it (DMD2)",
    )
    rollouts: Literal["shared", "fresh"] = Field(
        "shared",
        description="what an iteration's critic updates learn from. shared: the rollout that the student is improved "
        "on (ours: one rollout an iteration); fresh: each further update a rollout of its own, from fresh noise for "
        "the same prompts; critic-first then leaves the student's rollout to the student alone",
    )
    prompts: Literal["student", "teacher"] = Field(
        "student",
        description="which prompt the critic reads where a case has a teacher_prompt. Both have the same optimum: the "
        "student's pictures depend on its own prompt alone",
    )
    warmup_iterations: int = Field(
        0,
        ge=0,
        le=MOST_WARM_UP,
        description="critic-only iterations before the first; 50 remove the early spike (field: ThakiCloud)",
    )

    def new_rollout(self, j: int) -> bool:
        """Whether update j of an iteration learns from a rollout of its own."""
        return self.rollouts == "fresh" and (j > 0 or self.order == "critic-first")

    def new_rollouts(self, updates: int) -> int:
        """How many rollouts the first `updates` updates of an iteration add to the student's."""
        return sum(self.new_rollout(j) for j in range(updates))


class GuidancePlan(Section):
    """Classifier-free guidance of one teacher at one task: v_u + s (v_c - v_u)."""

    scale: float = Field(1.0, ge=0, le=1000, description="1 is none, and costs no second evaluation")
    keep_norm: NormRule = Field(
        False,
        description="true: rescale each token to the conditional velocity's length; at-most: only where it is longer; "
        "picture-at-most: the whole picture, where it is longer",
    )
    negative: str = Field("", description="prompt of the unconditional branch")

    def guidance(self) -> Guidance:
        return Guidance(self.scale, self.keep_norm, self.negative)


GuidanceByTask = dict[Task, GuidancePlan] | None
_GUIDANCE = "guidance by task; a task left out has the family's default"


class BaseTeacherSpec(Section):
    """Teacher 0: the model itself, all adapters off."""

    guidance: GuidanceByTask = Field(None, description=_GUIDANCE)


class TeacherSpec(Section):
    """A specialised teacher: a LoRA over the base, or further weights of the same family."""

    adapter: str | None = Field(None, description="a LoRA: file or folder (diffusers, peft, ComfyUI or kohya keys)")
    model: str | None = Field(None, description="a further model of the same family: folder or hub id")
    place: Residency = Field(
        "resident",
        description="of a model's weights. resident: on the device all the time, split as run.sharding says; "
        "offloaded: on the CPU, copied to the device for each of its forwards; swapped: its blocks on the CPU, copied "
        "to the device one ahead of their use, two at a time",
    )
    guidance: GuidanceByTask = Field(None, description=_GUIDANCE)
    tasks: tuple[Task, ...] | None = Field(None, min_length=1, description="tasks it teaches; left out: all")
    categories: tuple[str, ...] | None = Field(None, min_length=1, description="categories it teaches; left out: all")
    anchor: bool = Field(
        False, description="stands in for the base on its samples: takes the rest there instead of a weighted part"
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.adapter is None) == (self.model is None):
            raise ValueError("a specialised teacher is either an adapter or a model: give exactly one of the two")
        if self.adapter is not None and self.place != "resident":
            raise ValueError(f"place: {self.place} is for a model; an adapter shares the base's weights and is small")
        return self


class AdaptivePlan(Section):
    """Preset adaptive: the lam_max of each specialised teacher is adapted like a trust region.

    trust is the share of lam_max that a teacher has now. pull is how strongly it pulls, in units of what the base pulls
    back; it is 1 where the two balance (`objective/mismatch.py`).
    """

    bound: float = Field(
        1.5, gt=0, description="pull up to which trust is raised, and above which it is lowered (ours)"
    )
    start: float = Field(0.2, gt=0, le=1, description="trust at the first iteration (ours)")
    least: float = Field(
        0.05, gt=0, le=1, description="trust is not lowered below this: at 0 nothing is measured (ours)"
    )
    raise_by: float = Field(1.02, ge=1, description="factor on trust after a pull within the bound (ours)")
    lower_by: float = Field(0.9, gt=0, lt=1, description="factor on trust after a pull above the bound (ours)")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.start:
            raise ValueError(f"teachers.adaptive.least {self.least} must not lie above start {self.start}")
        return self


class WatchPlan(Section):
    """What is measured of the specialised teachers during a run, and what happens when one pulls too hard."""

    bound: float = Field(4.0, gt=0, description="largest pull of a specialised teacher that goes unanswered (ours)")
    patience: int = Field(10, gt=0, description="measurements above the bound in a row that make an event (ours)")
    answer: PullResponse = Field(
        "warn", description="to an event. warn: a line; halve: that teacher's weights too; stop: end the run, saved"
    )
    base_every: int = Field(
        0,
        ge=0,
        description="every so many iterations the base is run beside teachers that leave it no weight, only to measure "
        "them: a forward more; 0: measure where both have weight anyway",
    )
    latents: bool = Field(
        False, description="record saturation, and the latents' mean and spread against the teachers', each iteration"
    )


class TeachersSpec(Section):
    """Who teaches at which student step, and how strongly."""

    preset: Preset = Field(
        "base-only",
        description="rows of the specialised weights: base-only 0; step-wise 0, 0, .5, 1 (ours); last-step-only; "
        "constant 1; specialised-alone: no base at all, no ramp (the paper's failure); adaptive: step-wise, and "
        "lam_max is followed by the measured pull instead of the ramp (ours)",
    )
    lam_max: float | dict[str, float] = Field(
        0.5, description="weight of a specialised teacher where its row is 1, for all or by name (ours)"
    )
    rows: tuple[float, ...] | dict[str, tuple[float, ...]] | None = Field(
        None,
        description="one number in [0, 1] a student step, noisiest first, for all or by name, instead of the preset's",
    )
    ramp: float = Field(0.2, ge=0, le=1, description="fraction of the iterations over which weights rise from 0 (ours)")
    base: BaseTeacherSpec = Field(
        default=BaseTeacherSpec(guidance=None), description="the model itself, as the teacher called base"
    )
    named: dict[str, TeacherSpec] = Field(
        {}, description="specialised teachers by name; a name set to null is taken out"
    )
    adaptive: AdaptivePlan = Field(
        default=AdaptivePlan.model_validate({}), description="the trust region of preset adaptive"
    )
    watch: WatchPlan = Field(
        default=WatchPlan.model_validate({}), description="health of the guidance, and answers to it"
    )

    @field_validator("lam_max", "rows")
    @classmethod
    def _shares(cls, given: Any) -> Any:
        """Also where no teacher has a weighted part, so that what is written is right or refused."""
        by_name = given if isinstance(given, dict) else {"": given}
        for name, weights in by_name.items():
            every = weights if isinstance(weights, tuple) else () if weights is None else (weights,)
            if not all(0 <= weight <= 1 for weight in every):
                whose = f" of '{name}'" if name else ""
                raise ValueError(f"weights of teachers lie in [0, 1]; those{whose} are {list(every)}")
        return given

    @field_validator("named", mode="before")
    @classmethod
    def _taken_out(cls, named: Any) -> Any:
        """Drops names set to null. So a recipe can leave out a teacher of the recipe that it extends."""
        return {k: v for k, v in named.items() if v is not None} if isinstance(named, Mapping) else named

    @field_validator("named")
    @classmethod
    def _plain_names(cls, named: dict[str, TeacherSpec]) -> dict[str, TeacherSpec]:
        for name in named:
            if name == "base" or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(
                    f"'{name}' cannot name a specialised teacher: use letters, digits, _ and -, not 'base'"
                )
        return named
