"""The order of cases without phases and without kinds: what the runs' own order is held against."""

from collections.abc import Mapping, Sequence

from fewstep.data.cases import Case
from fewstep.data.composition import Composition
from fewstep.data.mixture import Ratio, index_at, position_at
from fewstep.data.phases import constant
from fewstep.data.streams import Stream
from fewstep.runtime.task import Task


def case_at(i: int, streams: Sequence[Stream], seed: int) -> Case:
    """Sample i of several streams: each has exactly its share of any sum(weights) consecutive samples."""
    number, rank = position_at(i, [stream.weight for stream in streams])
    stream = streams[number]
    return stream.cases[index_at(rank, len(stream.cases), stream.name, seed)]


def unchanging(ratio: Ratio, streams: Mapping[Task, Sequence[Stream]]) -> Composition:
    """The same ratio and the same streams all the time."""
    return Composition(constant(ratio), {task: constant(tuple(held)) for task, held in streams.items()})
