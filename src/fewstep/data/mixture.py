"""Which task, category and case come at position i: pure functions of i, without torch and without state.

A run that resumes at iteration 700, or a second rank, computes what it needs from the number alone.
"""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from fewstep.data.phases import Phases
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import TASKS, Task


class StreamPosition(NamedTuple):
    """The position belongs to stream number `stream` and is that stream's `rank`-th (from 0)."""

    stream: int
    rank: int


def position_at(i: int, weights: Sequence[int]) -> StreamPosition:
    """Which stream position i belongs to, when stream j has weights[j] of every sum(weights) positions.

    Any sum(weights) consecutive positions hold stream j exactly weights[j] times, evenly spread: before any position a
    stream is less than one turn per halving of the list away from its exact share. The list is halved until one stream
    is left. Of n positions with R for the right half, position i goes right if floor((i + 1) R / n) exceeds floor(i R /
    n), and floor(i R / n) is also its rank there. All arithmetic is in whole numbers, so it is exact at any i.
    """
    assert i >= 0, i
    assert sum(weights) > 0, weights
    first, last, rank = 0, len(weights), i
    while last - first > 1:
        middle = (first + last) // 2
        right, n = sum(weights[middle:last]), sum(weights[first:last])
        before = rank * right // n
        if (rank + 1) * right // n > before:
            first, rank = middle, before
        else:
            last, rank = middle, rank - before
    return StreamPosition(first, rank)


def turns(n: int, weights: Sequence[int], stream: int) -> int:
    """How many of the positions 0 .. n - 1 belong to the stream. Follows the halving of `position_at`."""
    first, last = 0, len(weights)
    while last - first > 1 and n:
        middle = (first + last) // 2
        gone_right = n * sum(weights[middle:last]) // sum(weights[first:last])
        if stream >= middle:
            first, n = middle, gone_right
        else:
            last, n = middle, n - gone_right
    return n


def most_turns(n: int, weights: Sequence[int], stream: int) -> int:
    """The most of any n positions in a row that may belong to the stream: each halving of `position_at` gives either
    side its share of them, rounded up at most."""
    first, last = 0, len(weights)
    while last - first > 1 and n > 0:  # a side without weight has no position, nor has any part of it
        middle = (first + last) // 2
        half = (middle, last) if stream >= middle else (first, middle)
        n = -(-n * sum(weights[slice(*half)]) // sum(weights[first:last]))
        first, last = half
    return n


def stream_at(i: int, weights: Sequence[int]) -> int:
    """The number of the stream that position i belongs to; see `position_at`."""
    return position_at(i, weights).stream


@dataclass(frozen=True)
class Ratio:
    """Batches of each task, as in 5:5. 5:5 and 1:1 give the same order."""

    t2i: int
    edit: int

    def __post_init__(self) -> None:
        if self.t2i < 0 or self.edit < 0 or self.t2i + self.edit == 0:
            raise RecipeError(
                f"tasks {self.t2i}:{self.edit} leave nothing to learn; give whole numbers, not both 0, such as 5:5"
            )

    @property
    def weights(self) -> tuple[int, int]:
        return self.t2i, self.edit

    def __str__(self) -> str:
        return f"{self.t2i}:{self.edit}"


def task_turns(n: int, mixture: Phases[Ratio], task: Task) -> int:
    """How many of the batches 0 .. n - 1 are the task's. Each phase begins its period anew, so every whole period
    within a phase is exact."""
    number = TASKS.index(task)
    return sum(turns(span.end - span.start, mixture.values[span.number].weights, number) for span in mixture.spans(n))


def turn_at(i: int, mixture: Phases[Ratio]) -> tuple[Task, int]:
    """Batch i's task, and how many batches of that task came before it, in all phases."""
    *_, span = mixture.spans(i + 1)
    task = TASKS[stream_at(i - span.start, mixture.values[span.number].weights)]
    return task, task_turns(i, mixture, task)


def used_tasks(mixture: Phases[Ratio]) -> tuple[Task, ...]:
    """The tasks that have batches in some phase."""
    return tuple(task for n, task in enumerate(TASKS) if any(ratio.weights[n] for ratio in mixture.values))


def index_at(i: int, size: int, name: str, seed: int) -> int:
    """Which of `size` cases position i of the stream `name` takes. Every case comes once an epoch, and each epoch has
    an order of its own that depends on (seed, name, epoch) alone."""
    epoch, rank = divmod(i, size)
    return _order(size, name, seed, epoch)[rank]


def index_apart(i: int, size: int, name: str, seed: int, apart: int) -> int:
    """`index_at`, in an order in which any apart + 1 positions in a row hold different cases, across epochs too. With
    fewer than 3 x apart cases it is a third of their number in place of `apart`."""
    epoch, rank = divmod(i, size)
    return _order_apart(size, name, seed, epoch, min(apart, size // 3))[rank]


@lru_cache(maxsize=64)
def _order_apart(size: int, name: str, seed: int, epoch: int, apart: int) -> array:  # type: ignore[type-arg]
    """The order of an epoch. Of its first 2 x apart cases those come first that were not among the last `apart` of the
    epoch before. There are enough of them, and the last third of the order stays as it is."""
    own = _order(size, name, seed, epoch)
    if epoch == 0 or apart == 0:
        return own
    recent = set(_order(size, name, seed, epoch - 1)[size - apart :])
    return array("Q", sorted(own[: 2 * apart], key=recent.__contains__)) + own[2 * apart :]


@lru_cache(maxsize=64)
def _order(size: int, name: str, seed: int, epoch: int) -> array:  # type: ignore[type-arg]
    """0 .. size - 1 sorted by a keyed hash: a shuffle that no version of a library can change."""
    key = hashlib.blake2b(repr((name, seed, epoch)).encode(), digest_size=32).digest()

    def place(index: int) -> bytes:
        return hashlib.blake2b(index.to_bytes(8, "little"), key=key, digest_size=16).digest()

    return array("Q", sorted(range(size), key=place))
