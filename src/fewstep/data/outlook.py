"""What a run will see, counted before it runs: batches by task, samples by category and source, epochs."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import TASKS, Task, index_at, turns
from fewstep.data.order import Order
from fewstep.data.streams import Stream

Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True)
class Stretch:
    """Batches by task of the iterations start .. end - 1, at one ratio."""

    start: int
    end: int
    ratio: str
    batches: dict[Task, int]


@dataclass(frozen=True)
class SourceSeen:
    """samples: how many the run takes from the source. held: cases of the source that may come. distinct: cases that
    do come."""

    task: Task
    source: int
    samples: int
    held: int
    distinct: int

    @property
    def epochs(self) -> float:
        return self.samples / self.held if self.held else 0.0


@dataclass(frozen=True)
class Outlook:
    """stretches: the mixture's phases. categories: samples by task and category. sources: as declared."""

    stretches: tuple[Stretch, ...]
    categories: dict[tuple[Task, str], int]
    sources: tuple[SourceSeen, ...]


def outlook(composition: Composition, iterations: int, batch: int, seed: int, kind: Callable[[Case], Kind]) -> Outlook:
    """Everything that `iterations` batches hold, exact: `kind` tells cases apart that cannot share a batch."""
    order = Order(composition, kind, batch, seed)
    drawn = [(task, stream, count) for task in composition.tasks for stream, count in order.drawn(task, iterations)]
    categories: Counter[tuple[Task, str]] = Counter()
    for task, stream, count in drawn:
        for category, samples in _categories(stream, count, seed).items():
            categories[task, category] += samples
    return Outlook(_stretches(composition, iterations), dict(sorted(categories.items())), _sources(drawn))


def _stretches(composition: Composition, iterations: int) -> tuple[Stretch, ...]:
    found = []
    for number, start, end in composition.mixture.spans(iterations):
        ratio = composition.mixture.values[number]
        batches = {task: turns(end - start, ratio.weights, n) for n, task in enumerate(TASKS)}
        found.append(Stretch(start, end, str(ratio), batches))
    return tuple(found)


def _categories(stream: Stream, count: int, seed: int) -> Counter[str]:
    """Categories of a stream's first `count` samples: whole epochs hold every case once, the last is walked."""
    epochs, rest = divmod(count, len(stream.cases))
    found: Counter[str] = Counter()
    for case in stream.cases:
        found[case.category] += epochs
    for position in range(count - rest, count):
        found[stream.cases[index_at(position, len(stream.cases), stream.name, seed)].category] += 1
    return +found


def _sources(drawn: list[tuple[Task, Stream, int]]) -> tuple[SourceSeen, ...]:
    found: dict[tuple[Task, int], SourceSeen] = {}
    for task, stream, count in drawn:
        before = found.get((task, stream.source), SourceSeen(task, stream.source, 0, 0, 0))
        found[task, stream.source] = SourceSeen(
            task,
            stream.source,
            before.samples + count,
            before.held + len(stream.cases),
            before.distinct + min(count, len(stream.cases)),
        )
    return tuple(found.values())
