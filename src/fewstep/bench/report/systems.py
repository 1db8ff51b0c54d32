"""Galleries as a report sees them: read whole, grouped by suite, and refused where they cannot stand in one table."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep import durable
from fewstep.bench.metrics.record import Measured, read_metrics
from fewstep.bench.verdict import Verdict, read_verdicts
from fewstep.errors import GalleryError

Key = tuple[str, int]  # case id and seed: one picture of every system


@dataclass(frozen=True)
class SuiteName:
    """What must be equal for pictures to be compared."""

    name: str
    version: str
    hash: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.hash[:12]})"


@dataclass(frozen=True)
class System:
    """One gallery, read whole. records: the manifest's line for each picture, failed ones among them."""

    name: str
    folder: Path
    suite: SuiteName
    model: Mapping[str, Any]
    origin: str
    records: Mapping[Key, Mapping[str, Any]]
    verdicts: Mapping[str, Sequence[Verdict]]
    measured: Mapping[str, Sequence[Measured]]

    @cached_property
    def scores(self) -> Mapping[str, Mapping[Key, float]]:
        """judge -> picture -> score: the mean over its repeats that are scores. What is refused or torn has none."""
        return {judge: _means(verdicts) for judge, verdicts in self.verdicts.items()}

    @cached_property
    def values(self) -> Mapping[str, Mapping[str, Mapping[Key, float]]]:
        """metric -> name of a value -> picture -> value. What was skipped is absent."""
        found: dict[str, dict[str, dict[Key, float]]] = {}
        for metric, lines in self.measured.items():
            of = found.setdefault(metric, {})
            for line in lines:
                for name, value in line.values.items():
                    if value is not None:
                        of.setdefault(name, {})[line.case, line.seed] = float(value)
        return found

    @cached_property
    def verdicts_of(self) -> Mapping[str, Mapping[Key, list[Verdict]]]:
        """judge -> picture -> its verdicts, in the order of the file."""
        found: dict[str, dict[Key, list[Verdict]]] = {judge: {} for judge in self.verdicts}
        for judge, verdicts in self.verdicts.items():
            for verdict in verdicts:
                found[judge].setdefault((verdict.case, verdict.seed), []).append(verdict)
        return found

    def failed(self, key: Key) -> str | None:
        """Why there is no picture; None where there is one, or where none was asked for."""
        record = self.records.get(key)
        if record is None or record.get("status", "drawn") == "drawn":
            return None
        return str(record.get("why") or "failed, and its gallery does not say why")


@dataclass(frozen=True)
class Group:
    """Galleries of one suite; the reference first. keys: every picture that any of them was asked for, in the order
    of the manifests."""

    suite: SuiteName
    systems: tuple[System, ...]

    @property
    def reference(self) -> System:
        return self.systems[0]

    @cached_property
    def keys(self) -> Mapping[Key, Mapping[str, Any]]:
        """Each picture with the first manifest line about it: its prompt, task and category."""
        found: dict[Key, Mapping[str, Any]] = {}
        for system in self.systems:
            for key, record in system.records.items():
                found.setdefault(key, record)
        return found

    @cached_property
    def judges(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(judge for system in self.systems for judge in system.verdicts))

    @cached_property
    def categories(self) -> Mapping[str, int]:
        """category -> number of pictures asked for, in the order of the suite."""
        return Counter(str(record.get("category", "")) for record in self.keys.values())


def open_system(folder: Path) -> System:
    """The gallery in `folder`.

    Raises:
        GalleryError: no gallery there, or one that does not say of which suite it is.
    """
    file = folder / "gallery.json"
    if not file.is_file():
        raise GalleryError(f"{folder} is no gallery: it has no gallery.json. Make one with `fewstep generate`, or of "
                         "pictures made elsewhere with `fewstep bench adopt`")
    try:
        said = json.loads(file.read_text())
        suite = SuiteName(*(str(said["suite"][name]) for name in ("name", "version", "hash")))
        name = str(said["system"])
    except (ValueError, KeyError, TypeError) as error:
        raise GalleryError(f"{file} does not name its system and its suite ({error}): make the gallery again") from None
    lines = {(str(r["case"]), int(r["seed"])): r for r in durable.lines(folder / "manifest.jsonl")}
    if not lines:
        raise GalleryError(f"{folder} has no picture yet: its manifest is empty. Finish `fewstep generate` first")
    model, origin = said.get("model") or {}, str(said.get("origin", "generated"))
    return System(name, folder, suite, model, origin, lines, read_verdicts(folder), read_metrics(folder))


def _means(verdicts: Sequence[Verdict]) -> dict[Key, float]:
    found: dict[Key, list[float]] = {}
    for verdict in verdicts:
        if verdict.status == "ok" and verdict.score is not None:
            found.setdefault((verdict.case, verdict.seed), []).append(verdict.score)
    return {key: sum(scores) / len(scores) for key, scores in found.items()}


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
        Group(suite, tuple(sorted((s for s in systems if s.suite == suite), key=lambda s: s.name != first)))
        for suite in dict.fromkeys(system.suite for system in systems)
    )
    _refuse_strangers(groups)
    return groups


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
            raise GalleryError(f"{other.folder} and {system.folder} are both called {system.name}: nobody could tell "
                             'them apart. Give one another name under "system" in its gallery.json')


def _refuse_strangers(groups: Sequence[Group]) -> None:
    """Two suites in one report need a system in common, or nothing in it could be compared."""
    for group in groups[1:]:
        if not {s.name for s in group.systems} & {s.name for s in groups[0].systems}:
            raise GalleryError(f"no system has answered both {groups[0].suite.name} and {group.suite.name}: nothing "
                             "could be compared. Report each suite alone")


def missing(groups: Sequence[Group]) -> Iterator[str]:
    """What a reader must know is not there, in sentences."""
    names = list(dict.fromkeys(system.name for group in groups for system in group.systems))
    for group in groups:
        there = [system.name for system in group.systems]
        for name in names:
            if name not in there:
                yield f"{name} has no gallery for {group.suite.name}; it is absent from that suite's tables."
        for system in group.systems:
            yield from _missing_of(system, group)


def _missing_of(system: System, group: Group) -> Iterator[str]:
    asked, have = len(group.keys), len(system.records)
    if have < asked:
        yield f"{system.name} lacks {asked - have:,} of {asked:,} pictures that another gallery has."
    failures = sum(system.failed(key) is not None for key in system.records)
    if failures:
        yield f"{system.name}: {failures:,} of {have:,} pictures failed; see Failures."
    if not system.verdicts:
        yield f"{system.name} has no verdicts on {group.suite.name}: run `fewstep judge run {system.folder}`."
    for judge in group.judges:
        if system.verdicts and judge not in system.verdicts:
            yield f"{system.name} was not shown to the judge {judge}; it has no rank by all judges."
    if not system.measured:
        yield f"{system.name} has no metrics on {group.suite.name}: run `fewstep bench metrics {system.folder}`."
