"""Which kinds of cases share batches, because one of them alone could not fill a batch without repeating a case.

A kind with many cases has batches of its own, which are fastest. The others are put together: a batch of several kinds
is run in parts, one for each kind (`encode/batch.py`). So no case is drawn more often, or repeated within a batch,
because few others have its shape.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from fewstep.data.cases import Case
from fewstep.data.mixture import most_turns
from fewstep.data.phases import Phases
from fewstep.data.streams import Stream, split_by_group

Kind = TypeVar("Kind", bound=Hashable)


def sharing_kinds(phases: Phases[tuple[Stream, ...]], kind: Callable[[Case], Kind], batch: int) -> frozenset[Kind]:
    """The kinds of a task's cases that share batches. They are the same in all phases, so that streams go on where a
    phase ends.

    Kinds that are too small come first. What they make up together may be too small as well: then the smallest of the
    others are added until it is not.
    """
    counts = Counter(kind(case) for case in {case: None for held in phases.values for s in held for case in s.cases})
    if len(counts) == 1 or batch == 1:
        return frozenset()
    sharing: frozenset[Kind] = frozenset()
    while True:
        small = _small_groups(phases, kind, sharing, batch)
        if small == {None} and len(sharing) < len(counts):
            small = {min(counts.keys() - sharing, key=lambda one: (counts[one], repr(one)))}
        more = frozenset(one for one in small if one is not None)
        if not more:
            return sharing
        sharing |= more


def _small_groups(
    phases: Phases[tuple[Stream, ...]], kind: Callable[[Case], Kind], sharing: frozenset[Kind], batch: int
) -> set[Kind | None]:
    """Kinds that are too small in some phase. None: what shares batches, all together."""

    def group(case: Case) -> Kind | None:
        own = kind(case)
        return None if own in sharing else own

    groups = [split_by_group(held, group) for held in phases.values]
    return {key for each in groups for key, streams in each.items() if is_small(streams, batch)}


def is_small(streams: Sequence[Stream], batch: int) -> bool:
    """Whether a batch of these streams could repeat a case.

    Orders keep the samples that a stream may have in one batch apart, across the end of an epoch too, if it has at
    least three times as many cases as samples beside the first (`index_apart`).
    """
    weights = [stream.weight for stream in streams]
    return any(len(stream.cases) < 3 * (most_turns(batch, weights, s) - 1) for s, stream in enumerate(streams))
