"""What a run calls while it goes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fewstep.runtime.reporter import SILENT, Reporter

OnIteration = Callable[[int, Mapping[str, Any]], Literal["stop"] | None]
"""on_iteration(i, line): what iteration i wrote into metrics.jsonl. "stop" saves and ends the run after it; the same
call goes on from there."""


@dataclass(frozen=True)
class RunHooks:
    """
    Args:
        examine: figures of the student after so many iterations; its averaged weights are in place meanwhile.
        render: draws fixed prompts from fixed noise after so many iterations, likewise.
        on_iteration: sees each iteration, and may stop the run. On several ranks the first one's is asked.
        reporter: where messages and progress go.
    """

    examine: Callable[[int], Mapping[str, float]] | None = None
    render: Callable[[int], object] | None = None
    on_iteration: OnIteration | None = None
    reporter: Reporter = SILENT
