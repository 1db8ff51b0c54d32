"""The recipe's section on a run's self-examination."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fewstep.bench.paired.catalogue import PairedFigure, figures_of
from fewstep.runtime.section import Section
from fewstep.runtime.task import Task

WatchAnswer = Literal["warn", "stop", "none"]
MOST_CASES = 4096  # ours
MOST_SEEDS = 64  # ours
JUDGE = "judge"  # the short name of its figures: t2i.judge, edit.judge


class AnswersPlan(Section):
    """What happens when an examination shows something that a healthy run does not (`bench/paired/watch.py`)."""

    variety: WatchAnswer = Field("warn", description="the pictures of one prompt become alike")
    saturation: WatchAnswer = Field("warn", description="colours stronger than the teacher's")
    shift: WatchAnswer = Field("warn", description="edits move what the teacher leaves in place, by more than 1 px")
    tint: WatchAnswer = Field("warn", description="edits recolour what the teacher leaves alone")
    noise: WatchAnswer = Field("warn", description="noise on flat areas that the teacher's pictures do not have")
    no_ops: WatchAnswer = Field("warn", description="edits that the teacher makes are not made")
    critic_lag: WatchAnswer = Field("warn", description="critic and teachers are far apart for 24 iterations")
    average: WatchAnswer = Field("warn", description="student.ema is 0: what ships is no average")


class ExamJudgePlan(Section):
    """A judge that scores the answers while the run trains. What it may spend stands in its own file (`budget`)."""

    file: str = Field(min_length=1, description="declares the endpoint, as for `fewstep judge run --judge`")
    protocol: str | None = Field(
        None, description="how it is asked (fewstep judge protocols), or a file; null: the default of each task"
    )
    calls: int | None = Field(None, gt=0, description="most questions that the whole run asks; null: all there are")
    wait_minutes: float = Field(
        10.0, ge=0, le=60, description="how long the end of a run waits for outstanding answers (ours)"
    )


class ExaminePlan(Section):
    """The set that a run examines itself with, what that may cost, and what follows."""

    t2i: str | None = Field(
        "mini-t2i", description="prompts: a shipped suite (fewstep bench suites), a suite's folder, or a file of cases"
    )
    edit: str | None = Field(
        "mini-edit", description="edits, the same way; with pictures. A task that the recipe lacks is left out"
    )
    prompts: int = Field(24, ge=0, le=MOST_CASES, description="how many of t2i, from the first on (ours)")
    seeds: int = Field(
        2, gt=0, le=MOST_SEEDS, description="pictures of each prompt; variety needs two (ours). Edits are drawn once"
    )
    edits: int = Field(24, ge=0, le=MOST_CASES, description="how many of edit, from the first on (ours)")
    share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="largest part of the run that examinations may take: else fewer cases, then rarer ones (ours)",
    )
    patience: int | None = Field(
        None, gt=0, description="ends the run after so many examinations without a better run.best_by; null: never"
    )
    answers: AnswersPlan = Field(
        default=AnswersPlan.model_validate({}), description="to what is noticed, event by event"
    )
    scorers: dict[str, str] = Field(
        {}, description="models that score prompt and picture, name: local folder (CLIP, SigLIP, PickScore)"
    )

    judge: ExamJudgePlan | None = Field(
        None, description="scores the answers through an endpoint, while the run trains; null: nobody is asked"
    )

    @field_validator("scorers")
    @classmethod
    def _names(cls, scorers: dict[str, str]) -> dict[str, str]:
        for name in scorers:
            if not name.isidentifier():
                raise ValueError(f"scorer {name!r:.40} names a figure: use letters, digits and _")
        return scorers

    @model_validator(mode="after")
    def _something(self) -> "ExaminePlan":
        if (self.t2i is None or not self.prompts) and (self.edit is None or not self.edits):
            raise ValueError("names neither prompts nor edits; give one of them, or set examine: null")
        if self.judge is not None and JUDGE in self.scorers:
            raise ValueError("scorers.judge and judge would both be the figure t2i.judge; name the scorer otherwise")
        return self

    def sources(self, tasks: Any) -> dict[Task, tuple[str, int]]:
        """Where cases come from, and how many: of the tasks that the recipe has."""
        given: dict[Task, tuple[str | None, int]] = {"t2i": (self.t2i, self.prompts), "edit": (self.edit, self.edits)}
        return {task: (source, n) for task, (source, n) in given.items() if task in tasks and source and n}

    def judged(self, tasks: Any) -> tuple[str, ...]:
        """The names of the judge's figures; none without a judge."""
        return () if self.judge is None else tuple(f"{task}.{JUDGE}" for task in self.sources(tasks))

    def figures(self, tasks: Any) -> tuple[PairedFigure, ...]:
        """Those of the catalogue that the set can give."""
        return figures_of(tuple(self.sources(tasks)), self.seeds)
