"""A value that changes over a run, in phases. Each phase lasts from its first iteration up to the next phase's
first."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from fewstep.runtime.errors import RecipeError

Value = TypeVar("Value")
Other = TypeVar("Other")


class Span(NamedTuple):
    """Phase `number` holds at iterations start .. end - 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class Phases(Generic[Value]):
    """values[p] holds before iteration ends[p], and from the end of the phase before it. The last phase has no end."""

    values: tuple[Value, ...]
    ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.values) == len(self.ends) + 1, self
        assert list(self.ends) == sorted({*self.ends} - {0}), self.ends

    def at(self, i: int) -> Value:
        """The value at iteration i."""
        return self.values[bisect_right(self.ends, i)]

    def spans(self, until: int) -> Iterator[Span]:
        """The phases that begin before iteration `until`. The last one is cut there."""
        starts = (0, *self.ends)
        for number, (start, end) in enumerate(zip(starts, (*self.ends, until), strict=True)):
            if start < until:
                yield Span(number, start, min(end, until))


def constant(value: Value) -> Phases[Value]:
    """One phase: the same value at every iteration."""
    return Phases((value,))


def zip_phases(one: Phases[Value], other: Phases[Other]) -> Phases[tuple[Value, Other]]:
    """Pairs of values: a phase begins wherever one of the two begins one."""
    ends = sorted({*one.ends, *other.ends})
    return Phases(tuple((one.at(start), other.at(start)) for start in (0, *ends)), tuple(ends))


def phases_of(values: Sequence[Value], untils: Sequence[int | None], where: str) -> Phases[Value]:
    """The phases that a schedule declares. Every entry but the last states the iteration until which it holds.

    Raises:
        RecipeError: an end is missing, or lies before the one above it; names the entry.
    """
    if not values:
        raise RecipeError(f"{where} is an empty schedule; give one entry at least")
    before = 0
    for number, until in enumerate(untils[:-1]):
        if until is None:
            raise RecipeError(f"{where}.{number} has no `until`; only the last entry of a schedule does without")
        if until <= before:
            raise RecipeError(
                f"{where}.{number}.until is {until}, not after {before}: a schedule runs forwards. "
                "Put its entries in order"
            )
        before = until
    if untils[-1] is not None:
        raise RecipeError(f"{where}.{len(untils) - 1}.until: the last entry holds to the end; leave its `until` out")
    return Phases(tuple(values), tuple(until for until in untils if until is not None))


def refuse_beyond(phases: Phases[Value], iterations: int, where: str) -> None:
    """
    Raises:
        RecipeError: a run of this many iterations never reaches one of the phases.
    """
    for number, end in enumerate(phases.ends):
        if end >= iterations:
            raise RecipeError(
                f"{where}.{number}.until is {end}, but run.iterations is {iterations}: what follows is never reached. "
                "Lower the one, or raise the other"
            )
