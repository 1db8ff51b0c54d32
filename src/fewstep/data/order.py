"""Which cases batch i holds: a pure function of i, for any number of ranks, over all phases of a run.

Samples are counted through the whole run: where a phase begins, each stream goes on with the case after its last one.
The earlier samples are not walked through but counted, in closed form.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import (
    index_at,
    position_at,
    task_turns,
    turn_at,
    turns,
)
from fewstep.data.streams import Stream, split_by_group
from fewstep.runtime.task import Task

Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True)
class _Leg(Generic[Kind]):
    """A stretch of one task's batches with the same streams. first: the number of the task's batches before it. drawn:
    the samples that each (kind, stream name) gave before it. The groups' batches take turns by their weights."""

    start: int
    first: int
    drawn: Counter[tuple[Kind, str]]
    groups: tuple[tuple[Kind, tuple[Stream, ...]], ...]

    @property
    def weights(self) -> list[int]:
        return [sum(stream.weight for stream in streams) for _, streams in self.groups]

    def samples(self, batches: int, size: int) -> Counter[tuple[Kind, str]]:
        """How many samples each stream gives in the leg's first `batches` batches."""
        found: Counter[tuple[Kind, str]] = Counter()
        for g, (kind, streams) in enumerate(self.groups):
            taken = turns(batches, self.weights, g) * size
            for s, stream in enumerate(streams):
                found[kind, stream.name] += turns(taken, [other.weight for other in streams], s)
        return found


class BatchOrder(Generic[Kind]):
    """The cases of every batch.

    Args:
        kind: only cases of one kind may share a batch. A kind's turn comes in proportion to its cases' shares.
        batch: samples in a batch, over all ranks.
    """

    def __init__(self, composition: Composition, kind: Callable[[Case], Kind], batch: int, seed: int):
        self.mixture, self.batch, self.seed = composition.mixture, batch, seed
        self._legs: Mapping[Task, Sequence[_Leg[Kind]]] = {
            task: self._walk(composition, task, kind) for task in composition.tasks
        }

    def cases(self, i: int) -> tuple[Task, tuple[Case, ...]]:
        """Batch i's task, and its cases in the order of the samples."""
        task, turn = turn_at(i, self.mixture)
        leg = next(leg for leg in reversed(self._legs[task]) if leg.start <= i)
        number, rank = position_at(turn - leg.first, leg.weights)
        kind, streams = leg.groups[number]
        first = rank * self.batch
        return task, tuple(self._case(leg, kind, streams, first + n) for n in range(self.batch))

    def drawn(self, task: Task, iterations: int) -> list[tuple[Stream, int]]:
        """The task's streams, one for each kind of case, and how many samples each gives in this many iterations.
        Sample n of a stream is its case `index_at(n, ...)`."""
        streams: dict[tuple[Kind, str], Stream] = {}
        counts: Counter[tuple[Kind, str]] = Counter()
        for leg in self._legs[task]:
            streams |= {(kind, stream.name): stream for kind, held in leg.groups for stream in held}
            if leg.start < iterations:
                counts = leg.drawn + leg.samples(task_turns(iterations, self.mixture, task) - leg.first, self.batch)
        return [(stream, counts[key]) for key, stream in streams.items()]

    def _case(self, leg: _Leg[Kind], kind: Kind, streams: Sequence[Stream], position: int) -> Case:
        number, rank = position_at(position, [stream.weight for stream in streams])
        stream = streams[number]
        nth = leg.drawn[kind, stream.name] + rank
        return stream.cases[index_at(nth, len(stream.cases), stream.name, self.seed)]

    def _walk(self, composition: Composition, task: Task, kind: Callable[[Case], Kind]) -> list[_Leg[Kind]]:
        """One leg for each phase of the task's streams."""
        phases = composition.streams[task]
        legs: list[_Leg[Kind]] = []
        for start, streams in zip((0, *phases.ends), phases.values, strict=True):
            first = task_turns(start, self.mixture, task)
            drawn: Counter[tuple[Kind, str]] = Counter()
            if legs:
                drawn = legs[-1].drawn + legs[-1].samples(first - legs[-1].first, self.batch)
            groups = tuple((k, tuple(held)) for k, held in split_by_group(streams, kind).items())
            legs.append(_Leg(start, first, drawn, groups))
        return legs
