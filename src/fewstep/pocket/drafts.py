"""How the pocket worlds' suites are put together: no case twice, and categories in turn."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeVar

from fewstep.bench.drafts import DraftCase
from fewstep.bench.pixels import pixel_hash
from fewstep.pocket.asked_case import AskedCase

Case = TypeVar("Case", bound=AskedCase)


def distinct_cases(cases: Callable[[int], Case]) -> Iterator[Case]:
    """The cases by their number from 0 on, without repetitions of the same words about the same pictures."""
    seen: set[tuple[str, ...]] = set()
    for index in count():
        case = cases(index)
        key = (case.prompt, *map(pixel_hash, case.references))
        if key not in seen:
            seen.add(key)
            yield case


def drafts_in_turn(streams: Sequence[Iterator[DraftCase]], each: int) -> Iterator[DraftCase]:
    """`each` drafts of every stream, one of each in turn."""
    for _ in range(each):
        for stream in streams:
            yield next(stream)
