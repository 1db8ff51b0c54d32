"""The callbacks of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fewstep.runtime.reporter import SILENT, Reporter

OnIteration = Callable[[int, Mapping[str, Any]], Literal["stop"] | None]
"""on_iteration(i, line): line is what iteration i wrote into metrics.jsonl. "stop" saves and ends the run. The same
call resumes it."""


@dataclass(frozen=True)
class ExamEvent:
    """Something that an examination shows and a healthy run does not. kind: which. values: the figures behind it."""

    kind: str
    words: str
    values: Mapping[str, float]
    answer: Literal["warn", "stop"]


@dataclass(frozen=True)
class SelfExam:
    """What a run found of itself. figures: by name; one that failed is not there. seconds: what it took."""

    figures: Mapping[str, float]
    events: Sequence[ExamEvent] = ()
    seconds: float = 0.0


class SelfExaminer(Protocol):
    """Examines the student against its teachers, on all ranks together. The student has its averaged weights then."""

    def due(self, done: int) -> bool:
        """Whether the student is examined after so many iterations. The same on all ranks."""
        ...

    def examine(self, done: int) -> SelfExam:
        """All ranks call it. What the first one returns counts."""
        ...


@dataclass(frozen=True)
class RunHooks:
    """
    Args:
        self_exam: what examines the student beside `examine`; both find figures of one examination.
        closeness: orders the values of `run.best_by`, more being better; None: as `run.best_is` says.
        later: whether `run.best_by` is a judge's figure, which comes after the run. No checkpoint is ranked then.
        patience: ends the run after so many examinations without a better `run.best_by`; None: never.
        examine: returns figures of the student after so many iterations. The student has its averaged weights then.
        render: renders fixed prompts from fixed noise after so many iterations, with the averaged weights as well.
        on_iteration: is called after each iteration, and may stop the run. On several ranks only the first calls it.
        reporter: takes messages and progress.
    """

    self_exam: SelfExaminer | None = None
    closeness: Callable[[float], float] | None = None
    later: bool = False
    patience: int | None = None
    examine: Callable[[int], Mapping[str, float]] | None = None
    render: Callable[[int], object] | None = None
    on_iteration: OnIteration | None = None
    reporter: Reporter = SILENT
