"""What `fewstep bench measure`, `compare` and `rank` do and print."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fewstep.bench import measuring, statistics
from fewstep.bench.agreement import judge_agreement
from fewstep.bench.comparison import Comparison, compare
from fewstep.bench.coverage import ENOUGH
from fewstep.bench.leaderboard import LeaderboardEntry, leaderboard
from fewstep.bench.metrics import latency
from fewstep.bench.metrics.by_name import metrics_named
from fewstep.bench.metrics.measurements import FOLDER, Measurement
from fewstep.bench.metrics.metric import Metric
from fewstep.bench.scores import (
    ScoredGallery,
    open_scored_galleries,
    shared_judges,
)
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError

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


def measure_gallery(
    gallery: Path, against: Path | None, names: Sequence[str] | None, workers: int | None, console: Console
) -> None:
    """Measures, writes, and prints the mean of every value; against another gallery also the paired comparison."""
    metrics = metrics_named(names)
    galleries = open_scored_galleries([gallery] if against is None else [gallery, against])
    found = [_measured(each, metrics, workers or _cores(), console) for each in galleries]
    summary = {metric.name: _summary(metric, *(each[metric.name] for each in found)) for metric in metrics}
    named = f"against-{galleries[1].system}" if against else "summary"
    place = gallery / FOLDER / f"{_safe(named)}.json"
    told = {"system": galleries[0].system, "against": galleries[1].system if against else None, "metrics": summary}
    durable.write_atomically(place, json.dumps(told, indent=1, allow_nan=False) + "\n")
    console.print(_table_of_metrics(metrics, summary, [each.system for each in galleries]))
    for metric in metrics:
        for why, count in _reasons(found[0][metric.name]).items():
            console.print(f"[dim]{metric.name} skipped {count:,}:[/] {why}", highlight=False, soft_wrap=True)
    for name, value in latency.latency_summary(found[0].get("latency", [])).items():
        console.print(f"[dim]latency[/] {name} {value:.3g}", highlight=False)
    console.print(f"Records and means: {gallery / FOLDER}", highlight=False, soft_wrap=True)


def _measured(
    each: ScoredGallery, metrics: Sequence[Metric], workers: int, console: Console
) -> dict[str, list[Measurement]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"measuring {each.system}", total=None)
        return measuring.run_metrics(
            each.folder, metrics, workers, lambda done, of: progress.update(task, completed=done, total=of)
        )


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _summary(
    metric: Metric, ours: Sequence[Measurement], theirs: Sequence[Measurement] | None = None
) -> dict[str, Any]:
    """By value: its mean; against another gallery also the ratio or difference of the pairs that both have."""
    found: dict[str, Any] = {}
    for name, value in metric.values.items():
        known = {(each.case, each.seed): each.values[name] for each in ours if name in each.values}
        if not known:
            continue
        mean = statistics.mean(list(known.values()), [case for case, _ in known])
        found[name] = {"unit": value.unit, "better": value.better, "mean": mean.as_dict()}
        if theirs is not None:
            other = {(each.case, each.seed): each.values[name] for each in theirs if name in each.values}
            pairs = [key for key in known if key in other]
            with_them = statistics.paired_ratio if value.compared == "ratio" else statistics.paired_difference
            against = with_them([known[p] for p in pairs], [other[p] for p in pairs], [case for case, _ in pairs])
            found[name] |= {"compared": value.compared, "against": against.as_dict()}
    return found


def _table_of_metrics(metrics: Sequence[Metric], summary: dict[str, Any], systems: Sequence[str]) -> Table:
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


def compare_galleries(
    a: Path,
    b: Path,
    margin: float,
    judges: Sequence[str] | None,
    metric: str | None,
    report: Path | None,
    console: Console,
) -> Comparison:
    """Prints A minus B; see `compare`.

    Raises:
        GalleryError: different suites, nothing to compare, or too little of it.
    """
    if margin < 0:
        raise GalleryError(f"a margin of {margin:g} is below 0; it is the difference below which none matters")
    ours, theirs = open_scored_galleries([a, b])
    if metric is None:
        scores = shared_judges([ours, theirs], judges)
        found = compare(scores[ours.system], scores[theirs.system], margin)
        what = "judges " + ", ".join(scores[ours.system])
    elif judges:
        raise GalleryError("compare by --judge or by --metric, not by both")
    else:
        what, found = metric, _by_metric(ours, theirs, metric, margin)
    _refuse_gaps(found, ours, theirs)
    _print_comparison(found, ours, theirs, what, console)
    if report is not None:
        told = {"a": ours.system, "b": theirs.system, "by": what, "suite": ours.suite.identity, **found.as_dict()}
        durable.write_atomically(report, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return found


def _by_metric(ours: ScoredGallery, theirs: ScoredGallery, name: str, margin: float) -> Comparison:
    """The comparison over the pictures to which the metric applies in both."""
    metric_name, value_name, value = ours.value(name)
    if value.better is None:
        raise GalleryError(
            f"{name} is neither better high nor low: `fewstep bench measure A --against B` shows its distance"
        )
    a, b = (each.metric(metric_name, value_name) for each in (ours, theirs))
    skipped = a.skipped | b.skipped
    cells = [{name: each.without(skipped)} for each in (a, b)]
    return compare(cells[0], cells[1], margin, lower_is_better=value.better == "lower")


def _refuse_gaps(found: Comparison, ours: ScoredGallery, theirs: ScoredGallery) -> None:
    if not found.asked:
        raise GalleryError(f"nothing that {ours.folder} and {theirs.folder} both have applies: no answer")
    if found.empty:
        raise GalleryError(
            f"{', '.join(found.empty)}: no pair has both scores under every judge, and an average without a category "
            "would be another one: no answer. Judge or measure the rest, or leave a judge out with --judge"
        )
    if not found.enough:
        raise GalleryError(
            f"{found.pairs:,} of {found.asked:,} pairs have both scores ({100 * found.coverage:.1f} %, needed "
            f"{100 * ENOUGH:g} %): what is missing may be the worst. Draw, judge or measure the rest, and compare again"
        )


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
    if found.shade in ("undecided", "not worse", "not better") and found.needed is not None:
        least = found.margin or abs(found.overall.value or 0.0)
        console.print(
            f"To tell a difference of {least:.3g} with power .8, at this spread: {found.needed:,} cases.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"[bold]{found.outcome}[/]: {OUTCOME_PHRASES[found.shade]} ({found.margin:g})", highlight=False, soft_wrap=True
    )


# ---- rank


def rank_galleries(
    folders: Sequence[Path], judges: Sequence[str] | None, report: Path | None, console: Console
) -> None:
    """Prints the rank table, the agreement of judges, and the ranks under other rules."""
    galleries = open_scored_galleries(folders)
    scores = shared_judges(galleries, judges)
    found, agreed = leaderboard(scores), judge_agreement(scores)
    console.print(_rank_table(found, galleries))
    for name in _left_out(galleries, scores) if judges is None else ():
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


def _left_out(galleries: Sequence[ScoredGallery], scores: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The judges that some gallery has and another lacks."""
    used = {judge for by_judge in scores.values() for judge in by_judge}
    return sorted({judge for each in galleries for judge in each.judges()} - used)


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
            f"{each.p_rank[0]:.2f}" if each.p_rank else "-",
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
