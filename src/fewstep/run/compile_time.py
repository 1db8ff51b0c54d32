"""Says how long the first iterations of a start took, in which blocks are compiled (`run.compile`)."""

from collections.abc import Mapping
from typing import Any, Literal

from fewstep.runtime.reporter import Reporter
from fewstep.train.hooks import OnIteration


def tell_compilation(reporter: Reporter, then: OnIteration | None) -> OnIteration:
    """`on_iteration` of a run with compiled blocks: the first iteration of each task is told, then `then` is asked.
    A later iteration may compile once more, for sizes or a student step that were not met before."""
    met: set[str] = set()

    def on_iteration(i: int, line: Mapping[str, Any]) -> Literal["stop"] | None:
        task = str(line["task"])
        if task not in met:
            met.add(task)
            took_s = line["seconds"]["iteration"]
            reporter.say(
                f"iteration {i}, the first of {task} since the start, took {took_s:.0f} s: blocks were compiled"
            )
        return None if then is None else then(i, line)

    return on_iteration
