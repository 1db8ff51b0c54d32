"""Galleries of one suite: what may be compared, in which order, and what is missing. Refuses what cannot stand in one
table."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.bench.gallery import Key
from fewstep.bench.report.systems import SuiteName, System
from fewstep.bench.suites import Question, Suite, suite_of
from fewstep.errors import FewstepError, GalleryError


@dataclass(frozen=True)
class Group:
    """Galleries of one suite; the reference first. suite is None where its folder is not there any more: the pictures
    given with edits are not known then."""

    name: SuiteName
    systems: tuple[System, ...]
    suite: Suite | None

    @property
    def reference(self) -> System:
        return self.systems[0]

    @cached_property
    def keys(self) -> Mapping[Key, Mapping[str, Any]]:
        """Each picture that any system was asked for, with the first manifest line about it (its prompt, task and
        category), in the order of the suite."""
        found: dict[Key, Mapping[str, Any]] = {}
        for system in self.systems:
            for key, record in system.records.items():
                found.setdefault(key, record)
        order = {(q.case.id, seed): i for i, (q, seed) in enumerate(self.asked)}
        return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))

    @cached_property
    def asked(self) -> list[tuple[Question, int]]:
        """Every question of the suite with each of its seeds; empty where the suite is not there."""
        return [(q, seed) for q in self.suite.questions for seed in q.seeds] if self.suite else []

    @cached_property
    def _references(self) -> Mapping[str, tuple[Path, ...]]:
        return {q.case.id: q.case.references for q in self.suite.questions} if self.suite else {}

    def sources(self, case: str) -> tuple[Path, ...]:
        """The pictures given with an edit."""
        return self._references.get(case, ())

    @cached_property
    def judges(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(judge for system in self.systems for judge in system.verdicts))

    @cached_property
    def categories(self) -> Mapping[str, int]:
        """category -> number of pictures asked for, in the order of the suite."""
        return Counter(str(record.get("category", "")) for record in self.keys.values())


def grouped(systems: Sequence[System], reference: str | None) -> tuple[Group, ...]:
    """Systems by suite, the reference first in each; systems keep their order.

    Raises:
        GalleryError: a suite in two forms, a system twice, an unknown reference, or nothing in common.
    """
    _refuse_two_forms(systems)
    _refuse_twins(systems)
    names = list(dict.fromkeys(system.name for system in systems))
    if reference is not None and reference not in names:
        raise GalleryError(f"--reference {reference}: no gallery of that system. There are {', '.join(names)}")
    first = reference or names[0]
    groups = tuple(
        _group(name, sorted((s for s in systems if s.suite == name), key=lambda s: s.name != first))
        for name in dict.fromkeys(system.suite for system in systems)
    )
    _refuse_strangers(groups)
    return groups


def _group(name: SuiteName, systems: Sequence[System]) -> Group:
    for system in systems:
        try:
            return Group(name, tuple(systems), suite_of(system.folder))
        except FewstepError:  # gone, or changed since: `missing` says so
            continue
    return Group(name, tuple(systems), None)


def _refuse_two_forms(systems: Sequence[System]) -> None:
    """Pictures of different questions cannot be averaged, however alike the suites are called."""
    seen: dict[str, System] = {}
    for system in systems:
        other = seen.setdefault(system.suite.name, system)
        if other.suite != system.suite:
            raise GalleryError(
                f"{other.folder} was made for the suite {other.suite}, {system.folder} for {system.suite}: they hold "
                "answers to different questions. Generate one of them again for the other's suite, or report each alone"
            )


def _refuse_twins(systems: Sequence[System]) -> None:
    seen: dict[tuple[SuiteName, str], System] = {}
    for system in systems:
        other = seen.setdefault((system.suite, system.name), system)
        if other is not system:
            raise GalleryError(
                f"{other.folder} and {system.folder} are both called {system.name}: nobody could tell "
                'them apart. Give one another name under "system" in its gallery.json'
            )


def _refuse_strangers(groups: Sequence[Group]) -> None:
    """Two suites in one report need a system in common, or nothing in it could be compared."""
    for group in groups[1:]:
        if not {s.name for s in group.systems} & {s.name for s in groups[0].systems}:
            raise GalleryError(
                f"no system has answered both {groups[0].name.name} and {group.name.name}: nothing "
                "could be compared. Report each suite alone"
            )


def names_of(groups: Sequence[Group]) -> list[str]:
    """Every system of any suite, the reference first."""
    first = [group.reference.name for group in groups[:1]]
    return list(dict.fromkeys([*first, *(system.name for group in groups for system in group.systems)]))


def missing(groups: Sequence[Group]) -> Iterator[str]:
    """What a reader must know is not there, in sentences."""
    names = list(dict.fromkeys(system.name for group in groups for system in group.systems))
    for group in groups:
        there = [system.name for system in group.systems]
        yield from _missing_of_suite(group)
        for name in names:
            if name not in there:
                yield f"{name} has no gallery for {group.name.name}; it is absent from that suite's tables."
        for system in group.systems:
            yield from _missing_of(system, group)


def _missing_of_suite(group: Group) -> Iterator[str]:
    if group.suite is None:
        yield (
            f"The suite {group.name} is not here, or has changed: pictures given with edits are not shown, and nobody "
            "can say whether all of its cases were asked."
        )
    elif len(group.keys) < len(group.asked):
        yield (
            f"These galleries hold {len(group.keys):,} of the {len(group.asked):,} pictures of {group.name.name}: what "
            "is said here is about this part, not about the suite."
        )


def _missing_of(system: System, group: Group) -> Iterator[str]:
    asked, have = len(group.keys), len(system.records)
    if have < asked:
        yield f"{system.name} lacks {asked - have:,} of {asked:,} pictures that another gallery has."
    failures = sum(system.failed(key) is not None for key in system.records)
    if failures:
        yield f"{system.name}: {failures:,} of {have:,} pictures failed; see Failures."
    if not system.verdicts:
        yield f"{system.name} has no verdicts on {group.name.name}: run `fewstep judge run {system.folder}`."
    for judge in group.judges:
        if system.verdicts and judge not in system.verdicts:
            yield f"{system.name} was not shown to the judge {judge}; it has no rank by all judges."
    if not system.measured:
        yield f"{system.name} has no metrics on {group.name.name}: run `fewstep bench metrics {system.folder}`."
