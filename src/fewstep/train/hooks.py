"""The callbacks of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fewstep.runtime.reporter import SILENT, Reporter

OnIteration = Callable[[int, Mapping[str, Any]], Literal["stop"] | None]
"""on_iteration(i, line): line is what iteration i wrote into metrics.jsonl. "stop" saves and ends the run. The same
call resumes it."""


@dataclass(frozen=True)
class RunHooks:
    """
    Args:
        examine: returns figures of the student after so many iterations. The student has its averaged weights then.
        render: renders fixed prompts from fixed noise after so many iterations, with the averaged weights as well.
        on_iteration: is called after each iteration, and may stop the run. On several ranks only the first calls it.
        reporter: takes messages and progress.
    """

    examine: Callable[[int], Mapping[str, float]] | None = None
    render: Callable[[int], object] | None = None
    on_iteration: OnIteration | None = None
    reporter: Reporter = SILENT
