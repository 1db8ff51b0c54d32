"""What `fewstep bench measure`, `compare` and `rank` do and print."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fewstep.bench.comparison import LEAST_CASES, Comparison
from fewstep.bench.leaderboard import LeaderboardEntry
from fewstep.bench.metrics import latency
from fewstep.bench.metrics.measurements import FOLDER, Measurement
from fewstep.bench.metrics.metric import Metric
from fewstep.bench.scores import ScoredGallery
from fewstep.bench.side_by_side import (
    compare_galleries,
    measure_gallery,
    rank_galleries,
)
from fewstep.runtime import durable

OUTCOMES = {"better": 0, "not": 1, "worse": 2}  # exit codes of compare; 3 is no answer
OUTCOME_PHRASES = {
    "better": "better by more than the margin",
    "worse": "worse by more than the margin",
    "equal": "equal within the margin",
    "not worse": "not worse by the margin, not shown to be better by it",
    "not better": "not better by the margin, not shown to be worse by it",
    "undecided": "undecided: the interval reaches beyond the margin on both sides",
}


# ---- measure


def measure_and_print(
    gallery: Path, against: Path | None, names: Sequence[str] | None, workers: int | None, console: Console
) -> None:
    """Measures, writes, and prints every value's mean - and, against another gallery, what both have pair by pair."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def bar(system: str) -> Callable[[int, int], object]:
            task = progress.add_task(f"measuring {system}", total=None)
            return lambda done, of: progress.update(task, completed=done, total=of)

        measured = measure_gallery(gallery, against, names, workers or _cores(), bar)
    system, other = measured.gallery.system, measured.against.system if measured.against else None
    place = gallery / FOLDER / f"{_safe(f'against-{other}' if other else 'summary')}.json"
    told = {"system": system, "against": other, "metrics": measured.means}
    durable.write_atomically(place, json.dumps(told, indent=1, allow_nan=False) + "\n")
    console.print(_table_of_metrics(measured.metrics, measured.means, [system, *([other] if other else [])]))
    for metric in measured.metrics:
        for why, count in _reasons(measured.records[metric.name]).items():
            console.print(f"[dim]{metric.name} skipped {count:,}:[/] {why}", highlight=False, soft_wrap=True)
    for name, value in latency.latency_summary(measured.records.get("latency", [])).items():
        console.print(f"[dim]latency[/] {name} {value:.3g}", highlight=False)
    console.print(f"Records and means: {gallery / FOLDER}", highlight=False, soft_wrap=True)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _table_of_metrics(metrics: Sequence[Metric], summary: Mapping[str, Any], systems: Sequence[str]) -> Table:
    table = Table("metric", "unit", systems[0], "n", *(f"against {name}" for name in systems[1:]))
    for metric in metrics:
        for name, found in summary[metric.name].items():
            against = [] if len(systems) == 1 else [_against(found)]
            shown = _shown(found["mean"])
            table.add_row(f"{metric.name}.{name}", found["unit"], shown, f"{found['mean']['n']:,}", *against)
    return table


def _against(found: dict[str, Any]) -> str:
    if found["compared"] == "ratio":
        return f"x {_shown(found['against'])}"
    return _shown(found["against"], signed=True)


def _reasons(records: Sequence[Measurement]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in records:
        if each.skipped:
            counts[each.skipped] = counts.get(each.skipped, 0) + 1
    return counts


# ---- compare


def compare_and_print(
    a: Path,
    b: Path,
    margin: float,
    judges: Sequence[str] | None,
    metric: str | None,
    report: Path | None,
    console: Console,
) -> Comparison:
    """Prints A minus B; see `compare_galleries`.

    Raises:
        GalleryError: different suites, nothing to compare, or too little of it.
    """
    compared = compare_galleries(a, b, margin=margin, judges=judges, metric=metric)
    ours, theirs, found = compared.a, compared.b, compared.found
    _print_comparison(found, ours, theirs, compared.by, console)
    if report is not None:
        told = {"a": ours.system, "b": theirs.system, "by": compared.by, "suite": ours.suite.identity}
        durable.write_atomically(report, json.dumps(told | found.as_dict(), indent=1, allow_nan=False) + "\n")
    return found


def _print_comparison(
    found: Comparison, ours: ScoredGallery, theirs: ScoredGallery, what: str, console: Console
) -> None:
    table = Table("", "difference (95 %)", "pairs", title=f"{ours.system} - {theirs.system}, by {what}")
    for name, each in [*found.categories.items(), *(found.judges.items() if len(found.judges) > 1 else ())]:
        table.add_row(name, _shown(each.as_dict(), signed=True), f"{each.n:,}")
    table.add_section()
    table.add_row("[bold]overall[/]", _shown(found.overall.as_dict(), signed=True), f"{found.overall.n:,}")
    console.print(table)
    console.print(
        f"Suite {ours.suite.name} {ours.suite.version}, {found.overall.clusters:,} cases; {found.pairs:,} of "
        f"{found.asked:,} pairs have both scores ({100 * found.coverage:.1f} %). Positive: {ours.system} is better.",
        highlight=False,
        soft_wrap=True,
    )
    if found.shade in ("undecided", "not worse", "not better") and found.needed is not None and not found.too_few:
        least = found.margin or abs(found.overall.value or 0.0)
        console.print(
            f"To tell a difference of {least:.3g} with power .8, at this spread: {found.needed:,} cases.",
            highlight=False,
            soft_wrap=True,
        )
    said = f"{OUTCOME_PHRASES[found.shade]} ({found.margin:g})"
    if found.too_few:
        said = f"{found.overall.clusters:,} cases are too few for a conclusion; compare {LEAST_CASES} or more"
    elif found.unanimous:
        said += ", by the same in every case, which has no interval"
    console.print(f"[bold]{found.outcome}[/]: {said}", highlight=False, soft_wrap=True)


# ---- rank


def rank_and_print(
    folders: Sequence[Path], judges: Sequence[str] | None, report: Path | None, console: Console
) -> None:
    """Prints the rank table, how judges agree, and what other rules would say."""
    ranking = rank_galleries(folders, judges=judges)
    galleries, found, agreed = ranking.galleries, ranking.entries, ranking.agreement
    console.print(_rank_table(found, galleries))
    for name in ranking.left_out:
        console.print(
            f"[yellow]Left out: judge {name}, which has not seen every gallery.[/] Let it judge them all to rank by it "
            "too; the report ranks by every judge, and withholds the rank of what one has not seen",
            highlight=False,
            soft_wrap=True,
        )
    for each in found:
        if each.why:
            bounds = "; ".join(f"{j} {c.worst:.2f} .. {c.best:.2f}" for j, c in each.coverage.items() if c.worst)
            console.print(
                f"[yellow]{each.system}: rank withheld, {each.why}.[/] Averages at the ends of the scale: {bounds}",
                highlight=False,
                soft_wrap=True,
            )
    for pair, values in agreed.items():
        told = ", ".join(f"{name} {x:.2f}" for name, x in values.items() if name != "n" and x is not None)
        console.print(f"[dim]{pair} on {values['n']:,} pictures:[/] {told}", highlight=False, soft_wrap=True)
    console.print(
        "Rank: mean over judges of plain means over categories. Systems of one band are not told apart from its first "
        "(all pairs at once, 95 %).",
        highlight=False,
        soft_wrap=True,
    )
    if report is not None:
        told_all = {
            "suite": galleries[0].suite.identity,
            "standings": [_finite(each.as_dict()) for each in found],
            "agreement": agreed,
        }
        durable.write_atomically(report, json.dumps(told_all, indent=1, allow_nan=False) + "\n")


def _rank_table(found: Sequence[LeaderboardEntry], galleries: Sequence[ScoredGallery]) -> Table:
    judges, suite = list(found[0].judges), galleries[0].suite
    columns = ["rank", "band", "system", "mean (95 %)", *judges, "P(first)", "coverage", "other rules"]
    table = Table(*columns, title=f"{suite.name} {suite.version}, {len(suite.questions):,} cases, {suite.seeds} seeds")
    for each in found:
        others = sorted(set(each.other_rules.values()))
        table.add_row(
            "-" if each.rank is None else str(each.rank),
            "-" if each.band is None else str(each.band),
            each.system,
            _shown(each.overall.as_dict()),
            *(_shown(each.judges[judge].as_dict()) for judge in judges),
            f"{each.p_rank[0]:.2f}" if each.p_rank and not isnan(each.p_rank[0]) else "-",
            f"{100 * min(c.share for c in each.coverage.values()):.1f} %",
            "-" if not others else str(others[0]) if len(others) == 1 else f"{others[0]}-{others[-1]}",
        )
    return table


def _shown(estimate: dict[str, Any], signed: bool = False) -> str:
    """value (low .. high), to at least three significant figures."""
    if estimate["value"] is None:
        return "-"
    form = "+.3f" if signed else ".3f"
    if estimate["low"] is None:
        return f"{estimate['value']:{form}}"
    return f"{estimate['value']:{form}} ({estimate['low']:{form}} .. {estimate['high']:{form}})"


def _finite(value: Any) -> Any:
    """NaN becomes null: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value != value else value
