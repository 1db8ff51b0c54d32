"""What became of the questions: failures by status with the server's words, cost, and how each judge was asked."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from fewstep.bench.agreement import judge_agreement
from fewstep.bench.attempts import Attempts
from fewstep.bench.judge_pass import attempts_of
from fewstep.bench.report.groups import GalleryGroup
from fewstep.bench.report.page import FactSheet
from fewstep.bench.report.systems import System
from fewstep.bench.report.tables import (
    Cell,
    ReportRow,
    Table,
)
from fewstep.bench.resampling import Scores
from fewstep.bench.verdict import FOLDER as VERDICTS
from fewstep.bench.verdict import Verdict

WORDS = 3  # different messages of the server shown for a status
LONG = 160  # characters shown of each
IN_LINES = ("versions", "device", "sigmas", "nfe")  # of a manifest
UNSTATED = Cell("not stated")
HOW_AGREED = (
    "τ sees the order of the pictures alone: a judge who is stricter by half a point agrees fully. α sees the scores: "
    "1 where judges are equal, 0 where they agree as chance would."
)


def failure_table(groups: Sequence[GalleryGroup]) -> Table | None:
    """Pictures that were not drawn and verdicts without a score; None if there are none."""
    lines = [line for group in groups for system in group.systems for line in _failures_of(system, group, len(groups))]
    if not lines:
        return None
    return Table("failures", "Failures", ("count", "of", "in the words of the model or the server"), tuple(lines))


def _failures_of(system: System, group: GalleryGroup, suites: int) -> Iterator[ReportRow]:
    name = f"{system.name}, {group.name}" if suites > 1 else system.name
    whys = [why for key in system.records if (why := system.failed(key)) is not None]
    if whys:
        yield _line(name, "picture not drawn", whys, len(system.records))
    for judge, verdicts in system.verdicts.items():
        for status in dict.fromkeys(v.status for v in verdicts if v.status != "ok"):
            whys = [v.why or v.reasoning for v in verdicts if v.status == status]
            yield _line(name, f"{judge}: {status.replace('_', ' ')}", whys, len(verdicts))


def _line(system: str, what: str, words: Sequence[str], of: int) -> ReportRow:
    most = Counter(" ".join(text.split())[:LONG] for text in words if text).most_common(WORDS)
    said = "; ".join(f"“{text}”" + (f" × {count:,}" if count > 1 else "") for text, count in most)
    return ReportRow(what, (Cell(f"{len(words):,}"), Cell(f"{of:,}"), Cell(said or "–")), group=system)


def judging_cost(groups: Sequence[GalleryGroup]) -> Table | None:
    """Per judge: calls, tokens, money and seconds, over all systems and suites; None without verdicts."""
    systems = [system for group in groups for system in group.systems]
    judges = list(dict.fromkeys(judge for system in systems for judge in system.verdicts))
    if not judges:
        return None
    columns = ("verdicts", "tokens in", "tokens out", "cost", "attempts", "spent on them", "seconds a verdict")
    note = "The first four are of the verdicts that stand; attempts include those that were asked again."
    lines = tuple(ReportRow(judge, _cost_of(systems, judge)) for judge in judges)
    return Table("cost", "Cost of judging", columns, lines, note, first="judge")


def _cost_of(systems: Sequence[System], judge: str) -> tuple[Cell, ...]:
    verdicts = [verdict for system in systems for verdict in system.verdicts.get(judge, ())]
    kept = [Attempts(attempts_of(system.folder / VERDICTS, judge)) for system in systems]
    prices = [v.cost for v in verdicts if v.cost is not None]
    seconds = [v.seconds for v in verdicts if v.seconds is not None]
    middle, slow = np.quantile(seconds, [0.5, 0.9]) if seconds else (None, None)
    tries = sum(each.lines for each in kept)
    return (
        Cell(f"{len(verdicts):,}"),
        _tokens(verdicts, "input"),
        _tokens(verdicts, "output"),
        Cell(f"{sum(prices):,.2f}", _stated(len(prices), len(verdicts))) if prices else UNSTATED,
        Cell(f"{tries:,}") if tries else Cell("not kept"),
        Cell(f"{sum(each.spent for each in kept):,.2f}") if tries and prices else UNSTATED,
        Cell(f"{middle:.2f}", f"p90 {slow:.2f}") if seconds else UNSTATED,
    )


def _tokens(verdicts: Sequence[Verdict], name: str) -> Cell:
    counts = [int(v.tokens[name]) for v in verdicts if v.tokens and v.tokens.get(name) is not None]
    return Cell(f"{sum(counts):,}", _stated(len(counts), len(verdicts))) if counts else UNSTATED


def _stated(known: int, of: int) -> str:
    return "" if known == of else f"stated for {known:,} of {of:,}"


def agreement_table(group: GalleryGroup, scores: Scores, key: str) -> Table:
    """Every two judges, over the pictures of all systems that both scored."""
    found = judge_agreement(scores)
    columns = ("Kendall's τ", "Krippendorff's α", "α of the order", "pictures")
    lines = tuple(
        ReportRow(
            pair, (*(_two(of[name]) for name in ("kendall", "alpha_interval", "alpha_ordinal")), Cell(f"{of['n']:,}"))
        )
        for pair, of in found.items()
    )
    return Table(key, group.name, columns, lines, first="judges")


def _two(value: float | int | None) -> Cell:
    return Cell("–" if value is None else f"{value:.2f}".replace("-", "−"))


def fact_sheets(groups: Sequence[GalleryGroup]) -> list[FactSheet]:
    """Suites, systems, judges and metrics, each with what identifies it."""
    return [*_suites(groups), *_systems(groups), *_judges(groups)]


def _suites(groups: Sequence[GalleryGroup]) -> Iterator[FactSheet]:
    for group in groups:
        pictures, cases = len(group.keys), len({case for case, _ in group.keys})
        yield FactSheet(
            f"Suite {group.name}",
            (
                ("Version", group.identity.version),
                ("Hash", group.identity.hash),
                (
                    "Asked for",
                    f"{pictures:,} pictures of {cases:,} cases; answered {len(group.answered):,}",
                ),
                ("Categories", ", ".join(f"{name} {count:,}" for name, count in group.categories.items())),
            ),
        )


def _systems(groups: Sequence[GalleryGroup]) -> Iterator[FactSheet]:
    for group in groups:
        for system in group.systems:
            title = f"System {system.name}" + (f" on {group.name}" if len(groups) > 1 else "")
            said = [(n.replace("_", " "), _plain(value)) for n, value in system.model.items() if value is not None]
            told = [*said, *_of_manifest(system)]
            yield FactSheet(title, (("Origin", system.origin), ("Pictures", f"{len(system.records):,}"), *told))


def _of_manifest(system: System) -> Iterator[tuple[str, str]]:
    """Facts from the manifest's lines that the heading does not state; with a count if the lines do not all agree."""
    for name in IN_LINES:
        said = [_plain(row[name]) for row in system.records.values() if row.get(name) is not None]
        if said and system.model.get(name) is None:
            yield name.replace("_", " "), _counted(iter(said))


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _judges(groups: Sequence[GalleryGroup]) -> Iterator[FactSheet]:
    for judge in dict.fromkeys(judge for group in groups for judge in group.judges):
        all_of = [v for group in groups for s in group.systems for v in s.verdicts.get(judge, ())]
        rungs = Counter(v.rung for v in all_of if v.rung)
        yield FactSheet(
            f"Judge {judge}",
            (
                ("Model, as the server named itself", _counted(v.model for v in all_of)),
                ("Protocol", _counted(v.protocol for v in all_of)),
                ("Structured output", ", ".join(f"{name} {count:,}" for name, count in rungs.items()) or "not stated"),
                ("Repeats", str(1 + max((v.repeat for v in all_of), default=0))),
            ),
        )


def _counted(names: Iterator[str | None]) -> str:
    """Each name, with its count if there are several: several are a warning in themselves."""
    counts = Counter(str(name or "unnamed") for name in names)
    return ", ".join(counts) if len(counts) == 1 else ", ".join(f"{name} ({n:,})" for name, n in counts.items())
