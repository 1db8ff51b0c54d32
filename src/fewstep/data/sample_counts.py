"""What a run will see, counted before it runs: batches by task, samples by category and source, epochs."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import turns
from fewstep.data.order import BatchOrder
from fewstep.data.streams import Stream
from fewstep.runtime.task import TASKS, Task

_Kind = TypeVar("_Kind", bound=Hashable)


@dataclass(frozen=True)
class PhaseCounts:
    """Batches by task of the iterations start .. end - 1, at one ratio."""

    start: int
    end: int
    ratio: str
    batches: dict[Task, int]


@dataclass(frozen=True)
class SourceCounts:
    """samples: how many the run takes from the source. held: cases of the source that may come. distinct: cases that do
    come."""

    task: Task
    source: int
    samples: int
    available: int
    distinct: int

    @property
    def epochs(self) -> float:
        return self.samples / self.available if self.available else 0.0


@dataclass(frozen=True)
class SampleCounts:
    """stretches: the mixture's phases. categories: samples by task and category. sources: as declared."""

    phases: tuple[PhaseCounts, ...]
    categories: dict[tuple[Task, str], int]
    sources: tuple[SourceCounts, ...]


def count_samples(
    composition: Composition, iterations: int, batch: int, seed: int, kind: Callable[[Case], _Kind]
) -> SampleCounts:
    """Exact counts of everything in `iterations` batches. `kind` tells apart cases that cannot share a batch."""
    order = BatchOrder(composition, kind, batch, seed)
    drawn = [(task, stream, count) for task in composition.tasks for stream, count in order.drawn(task, iterations)]
    categories: Counter[tuple[Task, str]] = Counter()
    for task, stream, count in drawn:
        for category, samples in _categories(stream, count, partial(order.index, task, stream)).items():
            categories[task, category] += samples
    return SampleCounts(_stretches(composition, iterations), dict(sorted(categories.items())), _sources(drawn))


def _stretches(composition: Composition, iterations: int) -> tuple[PhaseCounts, ...]:
    found = []
    for number, start, end in composition.mixture.spans(iterations):
        ratio = composition.mixture.values[number]
        batches = {task: turns(end - start, ratio.weights, n) for n, task in enumerate(TASKS)}
        found.append(PhaseCounts(start, end, str(ratio), batches))
    return tuple(found)


def _categories(stream: Stream, count: int, index: Callable[[int], int]) -> Counter[str]:
    """Categories of a stream's first `count` samples. Whole epochs hold every case once; the last, partial one is
    walked."""
    epochs, rest = divmod(count, len(stream.cases))
    found: Counter[str] = Counter()
    for case in stream.cases:
        found[case.category] += epochs
    for position in range(count - rest, count):
        found[stream.cases[index(position)].category] += 1
    return +found


def _sources(drawn: list[tuple[Task, Stream, int]]) -> tuple[SourceCounts, ...]:
    found: dict[tuple[Task, int], SourceCounts] = {}
    for task, stream, count in drawn:
        before = found.get((task, stream.source), SourceCounts(task, stream.source, 0, 0, 0))
        found[task, stream.source] = SourceCounts(
            task,
            stream.source,
            before.samples + count,
            before.available + len(stream.cases),
            before.distinct + min(count, len(stream.cases)),
        )
    return tuple(found.values())
