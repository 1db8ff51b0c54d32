"""Which cases batch i holds: a pure function of i, for any number of ranks, over all phases of a run.

Samples are counted through the whole run: where a phase begins, each stream goes on with the case after its last one.
The earlier samples are not walked through but counted, in closed form.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import (
    index_apart,
    index_at,
    position_at,
    task_turns,
    turn_at,
    turns,
)
from fewstep.data.phases import Phases
from fewstep.data.shared_batches import sharing_kinds
from fewstep.data.streams import Stream, split_by_group
from fewstep.runtime.task import Task

Kind = TypeVar("Kind", bound=Hashable)


@dataclass(frozen=True)
class _Leg(Generic[Kind]):
    """A stretch of one task's batches with the same streams. first: the number of the task's batches before it. drawn:
    the samples that each (group, stream name) gave before it. The groups' batches take turns by their weights. A group
    is a kind, or None for all kinds that share batches."""

    start: int
    first: int
    drawn: Counter[tuple[Kind | None, str]]
    groups: tuple[tuple[Kind | None, tuple[Stream, ...]], ...]

    @property
    def weights(self) -> list[int]:
        return [sum(stream.weight for stream in streams) for _, streams in self.groups]

    def samples(self, batches: int, size: int) -> Counter[tuple[Kind | None, str]]:
        """How many samples each stream gives in the leg's first `batches` batches."""
        found: Counter[tuple[Kind | None, str]] = Counter()
        for g, (kind, streams) in enumerate(self.groups):
            taken = turns(batches, self.weights, g) * size
            for s, stream in enumerate(streams):
                found[kind, stream.name] += turns(taken, [other.weight for other in streams], s)
        return found


class BatchOrder(Generic[Kind]):
    """The cases of every batch.

    Args:
        kind: cases of one kind share batches. A kind's turn comes in proportion to its cases' shares. Kinds of too few
            cases for that share batches with each other (`sharing`), as one group.
        batch: samples in a batch, over all ranks.
    """

    def __init__(self, composition: Composition, kind: Callable[[Case], Kind], batch: int, seed: int):
        self.mixture, self.batch, self.seed, self._kind = composition.mixture, batch, seed, kind
        self.kinds = {task: _kinds(composition.streams[task], kind) for task in composition.tasks}
        self.sharing = {task: sharing_kinds(composition.streams[task], kind, batch) for task in composition.tasks}
        self._legs: Mapping[Task, Sequence[_Leg[Kind]]] = {
            task: self._walk(composition, task) for task in composition.tasks
        }

    @property
    def revision(self) -> int:
        """2 where some task has several kinds, which runs of earlier versions had in another order; or else 1."""
        return 2 if self.batch > 1 and any(len(kinds) > 1 for kinds in self.kinds.values()) else 1

    def cases(self, i: int) -> tuple[Task, tuple[Case, ...]]:
        """Batch i's task, and its cases in the order of the samples."""
        task, turn = turn_at(i, self.mixture)
        leg = next(leg for leg in reversed(self._legs[task]) if leg.start <= i)
        number, rank = position_at(turn - leg.first, leg.weights)
        kind, streams = leg.groups[number]
        first = rank * self.batch
        return task, tuple(self._case(task, leg, kind, streams, first + n) for n in range(self.batch))

    def drawn(self, task: Task, iterations: int) -> list[tuple[Stream, int]]:
        """The task's streams, one for each group of cases, and how many samples each gives in this many iterations.
        Sample n of a stream is its case number `index(task, stream, n)`."""
        streams: dict[tuple[Kind | None, str], Stream] = {}
        counts: Counter[tuple[Kind | None, str]] = Counter()
        for leg in self._legs[task]:
            streams |= {(kind, stream.name): stream for kind, held in leg.groups for stream in held}
            if leg.start < iterations:
                counts = leg.drawn + leg.samples(task_turns(iterations, self.mixture, task) - leg.first, self.batch)
        return [(stream, counts[key]) for key, stream in streams.items()]

    def index(self, task: Task, stream: Stream, n: int) -> int:
        """Which of its cases the stream's n-th sample is. Where a task has several kinds, whose streams are short, the
        cases of one batch are kept apart where an epoch ends."""
        size = len(stream.cases)
        if len(self.kinds[task]) == 1:
            return index_at(n, size, stream.name, self.seed)
        return index_apart(n, size, stream.name, self.seed, self.batch - 1)

    def _case(self, task: Task, leg: _Leg[Kind], kind: Kind | None, streams: Sequence[Stream], position: int) -> Case:
        number, rank = position_at(position, [stream.weight for stream in streams])
        stream = streams[number]
        return stream.cases[self.index(task, stream, leg.drawn[kind, stream.name] + rank)]

    def group(self, task: Task, case: Case) -> Kind | None:
        """Cases of one group share batches. None: of any of the kinds that have no batches of their own."""
        kind = self._kind(case)
        return None if kind in self.sharing[task] else kind

    def _walk(self, composition: Composition, task: Task) -> list[_Leg[Kind]]:
        """One leg for each phase of the task's streams."""
        phases = composition.streams[task]
        legs: list[_Leg[Kind]] = []
        for start, streams in zip((0, *phases.ends), phases.values, strict=True):
            first = task_turns(start, self.mixture, task)
            drawn: Counter[tuple[Kind | None, str]] = Counter()
            if legs:
                drawn = legs[-1].drawn + legs[-1].samples(first - legs[-1].first, self.batch)
            groups = split_by_group(streams, partial(self.group, task))
            legs.append(_Leg(start, first, drawn, tuple((group, tuple(held)) for group, held in groups.items())))
        return legs


def _kinds(phases: Phases[tuple[Stream, ...]], kind: Callable[[Case], Kind]) -> Counter[Kind]:
    """The kinds of a task's cases, and the number of cases of each."""
    return Counter(kind(case) for case in {case: None for held in phases.values for s in held for case in s.cases})
