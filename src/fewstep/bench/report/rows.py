"""The data of the case browser: every picture asked for, every system's answer, every judge's words. They are compact,
as arrays in a fixed order, because a report of thousands of cases is opened from a file."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewstep.bench.gallery import PictureKey
from fewstep.bench.metrics.by_name import value_of
from fewstep.bench.report.groups import GalleryGroup
from fewstep.bench.report.pictures import Album
from fewstep.bench.report.systems import System
from fewstep.bench.verdict import Verdict

MEAN = "mean of the judges"


class Names:
    """Names by number, in the order of their first use, so each is written once."""

    def __init__(self, first: Sequence[Hashable] = ()):
        self._at: dict[Any, int] = {}
        for name in first:
            self(name)

    def __call__(self, name: Hashable) -> int:
        return self._at.setdefault(name, len(self._at))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._at)


@dataclass(frozen=True)
class Measure:
    """A number that every answer may have. better: higher, lower, or empty if neither is."""

    name: str
    better: str
    of: Callable[[System, PictureKey], float | None]
    judge: bool = False
    metric: bool = False


@dataclass
class Rows:
    """The data of a report's browser, added to group by group."""

    systems: Sequence[str]
    measures: Sequence[Measure]
    album: Album
    rows: list[Any] = field(default_factory=list)
    _names: dict[str, Names] = field(default_factory=dict)

    def add(self, group: GalleryGroup, key: PictureKey) -> None:
        """One picture as all systems drew it."""
        record = group.keys[key]
        by_name = {system.name: system for system in group.systems}
        answers = [self._answer(by_name.get(name), key) for name in self.systems]
        placed = [self.album.place(path) for path in group.sources(key[0])]
        self.rows.append(
            [
                self._number("suites", group.name),
                self._number("tasks", str(record.get("task", ""))),
                self._number("categories", str(record.get("category", ""))),
                key[0],
                key[1],
                str(record.get("prompt", "")),
                [list(picture) for picture in placed if picture],
                answers,
            ]
        )

    def data(self) -> dict[str, Any]:
        """All of it, for JSON."""
        named = ("suites", "tasks", "categories", "judges", "statuses", "criteria")
        return {
            "systems": list(self.systems),
            "measures": [
                {"name": m.name, "better": m.better, "judge": m.judge, "metric": m.metric} for m in self.measures
            ],
            "pictures": self.album.keep != "none",
            **{name: list(self._names.get(name, ())) for name in named},
            "rows": self.rows,
        }

    def _number(self, kind: str, name: Hashable) -> int:
        return self._names.setdefault(kind, Names())(name)

    def _answer(self, system: System | None, key: PictureKey) -> list[Any] | int:
        """[picture, values, verdicts, why there is none]; 0 if the system was not asked."""
        record = system.records.get(key) if system else None
        if system is None or record is None:
            return 0
        why = system.failed(key)
        picture = self.album.place(system.folder / str(record["file"])) if why is None else None
        values = [_short(measure.of(system, key)) for measure in self.measures]
        while values and values[-1] is None:
            values.pop()
        return [list(picture) if picture else 0, values, self._verdicts(system, key), why or ""]

    def _verdicts(self, system: System, key: PictureKey) -> list[Any]:
        return [self._verdict(judge, v) for judge, of in system.verdicts_of.items() for v in of.get(key, ())]

    def _verdict(self, judge: str, verdict: Verdict) -> list[Any]:
        return [
            self._number("judges", judge),
            self._number("statuses", verdict.status),
            verdict.score,
            self._number("criteria", tuple(verdict.sub_scores)),
            [_short(x) for x in verdict.sub_scores.values()],
            verdict.reasoning or verdict.why or "",
            list(verdict.failure_modes),
        ]


def _short(value: float | None) -> float | None:
    """Four significant figures: nobody reads more, and every report would carry them."""
    return None if value is None else float(f"{value:.4g}")


def measures_of(groups: Sequence[GalleryGroup]) -> list[Measure]:
    """The judges' mean, each judge, and each value of each metric that any system has."""
    judges = list(dict.fromkeys(judge for group in groups for judge in group.judges))
    mean = [Measure(MEAN, "higher", _mean_of(judges))] if len(judges) > 1 else []
    of_judges = [Measure(judge, "higher", _score_of(judge), judge=True) for judge in judges]
    pairs = dict.fromkeys(
        (metric, name)
        for group in groups
        for system in group.systems
        for metric, of in system.values.items()
        for name in of
    )
    return [*mean, *of_judges, *(_metric(metric, name) for metric, name in pairs)]


def _metric(metric: str, name: str) -> Measure:
    title = f"{metric}: {name}".replace("_", " ")
    return Measure(title, value_of(metric, name).better or "", _value_of(metric, name), metric=True)


def _score_of(judge: str) -> Callable[[System, PictureKey], float | None]:
    return lambda system, key: system.scores.get(judge, {}).get(key)


def _mean_of(judges: Sequence[str]) -> Callable[[System, PictureKey], float | None]:
    """The mean over all judges. None if one of them gave no score: otherwise two pictures could differ only by which
    judge gave none."""

    def mean(system: System, key: PictureKey) -> float | None:
        scores = [system.scores.get(judge, {}).get(key) for judge in judges]
        known = [score for score in scores if score is not None]
        return sum(known) / len(known) if known and len(known) == len(judges) else None

    return mean


def _value_of(metric: str, name: str) -> Callable[[System, PictureKey], float | None]:
    return lambda system, key: system.values.get(metric, {}).get(name, {}).get(key)
