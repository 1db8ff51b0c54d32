"""Which stream gives which share of each task's samples, over the run."""

from collections.abc import Mapping
from dataclasses import dataclass

from fewstep.data.cases import Case
from fewstep.data.mixture import (
    Ratio,
    used_tasks,
)
from fewstep.data.phases import Phases
from fewstep.data.streams import Stream
from fewstep.runtime.task import Task


@dataclass(frozen=True)
class Composition:
    """The task ratio, and the streams of each task that has batches; both may change over the run."""

    mixture: Phases[Ratio]
    streams: Mapping[Task, Phases[tuple[Stream, ...]]]

    def __post_init__(self) -> None:
        assert set(used_tasks(self.mixture)) <= set(self.streams), (self.mixture, list(self.streams))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that have batches."""
        return used_tasks(self.mixture)

    def cases(self) -> list[Case]:
        """Every case that may come, each once, in the order of tasks, phases and streams."""
        every = (
            case
            for task in self.tasks
            for streams in self.streams[task].values
            for stream in streams
            for case in stream.cases
        )
        return list(dict.fromkeys(every))
