"""From sources and weights to streams: who gives which share of a task's samples, in whole numbers."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm
from typing import TypeVar

from fewstep.data.cases import Case
from fewstep.data.plan import unknown_category
from fewstep.runtime.errors import RecipeError

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class Stream:
    """Cases that take turns in a shuffled order. weight: its share beside the task's other streams. name: keys the
    shuffle. source: the number of the source they come from."""

    name: str
    weight: int
    cases: tuple[Case, ...]
    source: int = 0

    def __post_init__(self) -> None:
        assert self.weight > 0, self.name
        assert self.cases, self.name


def by_source(task: str, sources: Sequence[Sequence[Case]], weights: Sequence[int]) -> list[Stream]:
    """One stream per source, at the sources' own weights."""
    shares = smallest_integers([Fraction(weight) for weight in weights])
    numbered = enumerate(zip(shares, sources, strict=True))
    return [Stream(f"{task}/{n}", share, tuple(cases), n) for n, (share, cases) in numbered if share]


def by_category(
    task: str,
    sources: Sequence[Sequence[Case]],
    weights: Sequence[int],
    categories: Mapping[str, int],
    where: str | None = None,
) -> list[Stream]:
    """Streams in which each category has its share. Sources that hold the same category split it by their weights. A
    category without a share, or with share 0, is left out. where: the key of the recipe that names them.

    Raises:
        RecipeError: a category that no source with a weight has.
    """
    parts: list[tuple[int, str, Fraction, tuple[Case, ...]]] = []
    for category, share in categories.items():
        held = [(n, tuple(case for case in cases if case.category == category)) for n, cases in enumerate(sources)]
        held = [(n, cases) for n, cases in held if cases and weights[n]]
        total = sum(weights[n] for n, _ in held)
        if share and not total:
            known = sorted({case.category for cases in sources for case in cases})
            raise RecipeError(unknown_category(where or f"data.category_weights.{task}", category, known))
        parts += [
            (n, f"{task}/{n}/{category}", Fraction(share * weights[n], total), cases) for n, cases in held if share
        ]
    shares = smallest_integers([share for _, _, share, _ in parts])
    return [Stream(name, share, cases, n) for (n, name, _, cases), share in zip(parts, shares, strict=True)]


def split_by_group(streams: Sequence[Stream], group: Callable[[Case], Group]) -> dict[Group, list[Stream]]:
    """The streams cut into groups of cases. Drawing a group by its summed weight, and then a sample within it, gives
    every case the same chance as before."""
    pieces: list[tuple[Group, Stream, Fraction]] = []
    for stream in streams:
        members: dict[Group, list[Case]] = {}
        for case in stream.cases:
            members.setdefault(group(case), []).append(case)
        for key, cases in members.items():
            part = replace(stream, cases=tuple(cases))
            pieces.append((key, part, Fraction(stream.weight * len(cases), len(stream.cases))))
    groups: dict[Group, list[Stream]] = {}
    for (key, part, _), weight in zip(pieces, smallest_integers([share for _, _, share in pieces]), strict=True):
        groups.setdefault(key, []).append(replace(part, weight=weight))
    return groups


def smallest_integers(shares: Sequence[Fraction]) -> list[int]:
    """The smallest whole numbers in the same proportion."""
    scale = lcm(*(share.denominator for share in shares))
    numbers = [int(share * scale) for share in shares]
    return [number // (gcd(*numbers) or 1) for number in numbers]
