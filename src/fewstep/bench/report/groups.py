"""Galleries of one suite: what may be compared, in which order, and what is missing. Galleries that cannot share a
table are refused."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep.bench.gallery import PictureKey
from fewstep.bench.judge_identity import refuse_two_judges, renamed_models
from fewstep.bench.report.systems import SuiteIdentity, System
from fewstep.bench.suite import Suite
from fewstep.bench.suites import suite_of
from fewstep.data.cases import record_of
from fewstep.runtime.errors import FewstepError, GalleryError


@dataclass(frozen=True)
class GalleryGroup:
    """Galleries of one suite, the reference first. suite is None if its folder no longer exists; then the reference
    pictures of edits are not known."""

    identity: SuiteIdentity
    systems: tuple[System, ...]
    suite: Suite | None

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def reference(self) -> System:
        return self.systems[0]

    @cached_property
    def keys(self) -> Mapping[PictureKey, Mapping[str, Any]]:
        """Every picture that the suite asks for, with its prompt, task and category. Without the suite, every picture
        that any gallery has a line for."""
        if self.suite is None:
            return {key: record for system in reversed(self.systems) for key, record in system.records.items()}
        asked = [(q, record_of(q.case, self.suite.folder)) for q in self.suite.questions]
        return {(q.case.id, seed): record for q, record in asked for seed in q.seeds}

    @cached_property
    def answered(self) -> list[PictureKey]:
        """The pictures that a gallery has a line for, in the order of the suite."""
        return [key for key in self.keys if any(key in system.records for system in self.systems)]

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


def group_galleries(systems: Sequence[System], reference: str | None) -> tuple[GalleryGroup, ...]:
    """Systems by suite, the reference first in each; otherwise in the given order.

    Raises:
        GalleryError: a suite in two forms, a system twice, an unknown reference, or nothing in common.
        JudgeError: two judges under one name.
    """
    _refuse_two_forms(systems)
    _refuse_twins(systems)
    refuse_two_judges(_judged(systems))
    names = list(dict.fromkeys(system.name for system in systems))
    if reference is not None and reference not in names:
        raise GalleryError(f"--reference {reference}: no gallery of that system. There are {', '.join(names)}")
    first = reference or names[0]
    groups = tuple(
        _group(name, sorted((s for s in systems if s.suite == name), key=lambda s: s.name != first))
        for name in dict.fromkeys(system.suite for system in systems)
    )
    _refuse_strangers(groups)
    return tuple(sorted(groups, key=lambda group: group.reference.name != first))


def _judged(systems: Sequence[System]) -> Iterator[tuple[Path, str, Iterator[Mapping[str, Any]]]]:
    for system in systems:
        for judge, verdicts in system.verdicts.items():
            yield system.folder, judge, (verdict.record() for verdict in verdicts)


def _group(identity: SuiteIdentity, systems: Sequence[System]) -> GalleryGroup:
    for system in systems:
        try:
            return GalleryGroup(identity, tuple(systems), suite_of(system.folder))
        except FewstepError:  # gone, or changed since: `missing_notes` says so
            continue
    return GalleryGroup(identity, tuple(systems), None)


def _refuse_two_forms(systems: Sequence[System]) -> None:
    """Pictures that answer different questions cannot be averaged, even if the suites have the same name."""
    seen: dict[str, System] = {}
    for system in systems:
        other = seen.setdefault(system.suite.name, system)
        if other.suite != system.suite:
            raise GalleryError(
                f"{other.folder} was made for the suite {other.suite}, {system.folder} for {system.suite}: they hold "
                "answers to different questions. Generate one of them again for the other's suite, or report each alone"
            )


def _refuse_twins(systems: Sequence[System]) -> None:
    seen: dict[tuple[SuiteIdentity, str], System] = {}
    for system in systems:
        other = seen.setdefault((system.suite, system.name), system)
        if other is not system:
            raise GalleryError(
                f"{other.folder} and {system.folder} are both called {system.name}: nobody could tell "
                'them apart. Give one another name under "system" in its gallery.json'
            )


def _refuse_strangers(groups: Sequence[GalleryGroup]) -> None:
    """Two suites in one report need a system in common, or nothing in it could be compared."""
    for group in groups[1:]:
        if not {s.name for s in group.systems} & {s.name for s in groups[0].systems}:
            raise GalleryError(
                f"no system has answered both {groups[0].name} and {group.name}: nothing "
                "could be compared. Report each suite alone"
            )


def names_of(groups: Sequence[GalleryGroup]) -> list[str]:
    """Every system of any suite, the reference first."""
    first = [group.reference.name for group in groups[:1]]
    return list(dict.fromkeys([*first, *(system.name for group in groups for system in group.systems)]))


def missing_notes(groups: Sequence[GalleryGroup]) -> Iterator[str]:
    """Sentences about what is missing, for the reader."""
    names = names_of(groups)
    for judge, models in renamed_models(_judged([system for group in groups for system in group.systems])).items():
        yield f"Judge {judge} answered under several names of its server ({', '.join(models)}): it may have changed."
    for group in groups:
        there = [system.name for system in group.systems]
        yield from _missing_of_suite(group)
        for name in names:
            if name not in there:
                instead = f", where the others are held against {there[0]}" if name == names[0] else ""
                yield f"{name} has no gallery for {group.name}{instead}; it is absent from that suite's tables."
        for system in group.systems:
            yield from _missing_of(system, group)


def _missing_of_suite(group: GalleryGroup) -> Iterator[str]:
    if group.suite is None:
        yield (
            f"The suite {group.identity} is not here, or has changed: pictures given with edits are not shown, and "
            "nobody can say whether all of its cases were asked."
        )
    elif len(group.answered) < len(group.keys):
        yield (
            f"These galleries hold {len(group.answered):,} of the {len(group.keys):,} pictures of {group.name}: "
            "means and pictures are of this part, and nobody is ranked on it."
        )


def _missing_of(system: System, group: GalleryGroup) -> Iterator[str]:
    asked, have = len(group.answered), sum(key in group.keys for key in system.records)
    if have < len(system.records):
        yield f"{system.name}: {len(system.records) - have:,} pictures that the suite does not ask are left out."
    if have < asked:
        yield f"{system.name} lacks {asked - have:,} of {asked:,} pictures that another gallery has."
    if have < len(group.keys) and system.cut_off:
        yield (
            f"{system.name}: {', '.join(system.cut_off)} was cut off when a process ended. It counts as no picture; "
            "`fewstep generate` draws it again."
        )
    failures = sum(system.failed(key) is not None for key in system.records)
    if failures:
        yield f"{system.name}: {failures:,} of {len(system.records):,} pictures failed; see Failures."
    if not system.verdicts:
        yield f"{system.name} has no verdicts on {group.name}: run `fewstep judge run {system.folder}`."
    for judge in group.judges:
        if system.verdicts and judge not in system.verdicts:
            yield f"{system.name} was not shown to the judge {judge}; it has no rank by all judges."
    if not system.measured:
        yield f"{system.name} has no metrics on {group.name}: run `fewstep bench measure {system.folder}`."
