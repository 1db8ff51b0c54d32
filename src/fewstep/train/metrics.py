"""metrics.jsonl: one line for each iteration, in order, each once.

phase warm-up or distil: `iteration` counts from 0. phase examine: `iteration` is the number of iterations done. phase
event: what was noticed in or after iteration `iteration`, and how the run reacted; it follows that iteration's line. A
teacher that pulled too hard has `teacher`; what an examination showed, or the watch of losses, has `kind`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fewstep.runtime.durable import (
    append_jsonl,
    make_folder,
    read_jsonl,
    write_atomically,
)
from fewstep.train.checkpoint import Position


class MetricsLog:
    def __init__(self, path: Path):
        self.path = path

    def append(self, phase: str, iteration: int, figures: dict[str, Any]) -> None:
        append_jsonl(self.path, {"phase": phase, "iteration": iteration, **figures})

    def lines(self) -> Iterator[dict[str, Any]]:
        """All records, in order; none if there is no file."""
        return read_jsonl(self.path)

    def values(self, figure: str) -> list[float]:
        """What examinations of learnt students found of a figure, in order."""
        return [
            float(line[figure])
            for line in self.lines()
            if line["phase"] == "examine" and line["iteration"] and isinstance(line.get(figure), int | float)
        ]

    def truncate_after(self, position: Position) -> None:
        """Deletes the lines after `position`. A run that resumes there writes them again."""
        make_folder(self.path.parent)
        kept = [line for line in read_jsonl(self.path) if _before(line, position)]
        write_atomically(
            self.path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in kept)
        )


def _before(line: dict[str, Any], position: Position) -> bool:
    if line["phase"] == "examine":
        return bool(position.iteration > 0 and line["iteration"] <= position.iteration)
    return bool(line["iteration"] < (position.warm_up if line["phase"] == "warm-up" else position.iteration))
