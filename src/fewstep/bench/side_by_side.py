"""Galleries measured, compared and ranked, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench import measuring, statistics
from fewstep.bench.agreement import judge_agreement
from fewstep.bench.comparison import Comparison, compare
from fewstep.bench.coverage import ENOUGH
from fewstep.bench.leaderboard import LeaderboardEntry, leaderboard
from fewstep.bench.metrics.by_name import metrics_named
from fewstep.bench.metrics.measurements import Measurement
from fewstep.bench.metrics.metric import Metric
from fewstep.bench.scores import (
    ScoredGallery,
    open_scored_galleries,
    shared_judges,
)
from fewstep.runtime.errors import GalleryError

# ---- measure


@dataclass(frozen=True)
class MeasuredGallery:
    """A gallery's measurements.

    Args:
        gallery, against: folder, system and suite; against is None where it was measured alone.
        metrics: in the order they were asked for.
        records: of each picture, by metric.
        means: by metric and value: unit, better direction, `mean` with its interval, and `against`, the ratio or
            difference of the pairs that both galleries have.
    """

    gallery: ScoredGallery
    against: ScoredGallery | None
    metrics: tuple[Metric, ...]
    records: Mapping[str, Sequence[Measurement]]
    means: Mapping[str, Mapping[str, Any]]


def measure_gallery(
    folder: str | Path,
    against: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    workers: int = 1,
    advance: Callable[[str], Callable[[int, int], object]] | None = None,
) -> MeasuredGallery:
    """Measures pictures without network or judge. What is measured is not measured again; records go to
    FOLDER/metrics/.

    Args:
        against: another gallery of the same suite, usually the teacher's.
        metrics: names; all if not given.
        workers: processes.
        advance: for a system, what is told cases done, and of how many.

    Raises:
        GalleryError, SuiteError: no gallery, galleries of different suites, or an unknown metric.
        PluginError: another package's metric cannot be used.
    """
    chosen = metrics_named(metrics)
    opened = open_scored_galleries([Path(folder)] if against is None else [Path(folder), Path(against)])
    told = [advance(each.system) if advance else lambda done, of: None for each in opened]
    found = [measuring.run_metrics(each.folder, chosen, workers, t) for each, t in zip(opened, told, strict=True)]
    means = {metric.name: _means(metric, *(each[metric.name] for each in found)) for metric in chosen}
    return MeasuredGallery(opened[0], opened[1] if against is not None else None, tuple(chosen), found[0], means)


def _means(metric: Metric, ours: Sequence[Measurement], theirs: Sequence[Measurement] | None = None) -> dict[str, Any]:
    """By value: its mean; against another gallery also the ratio or difference of the pairs that both have."""
    found: dict[str, Any] = {}
    for name, value in metric.values.items():
        known = {(each.case, each.seed): each.values[name] for each in ours if name in each.values}
        if not known:
            continue
        mean = statistics.mean(list(known.values()), [case for case, _ in known], bounds=value.bounds)
        found[name] = {"unit": value.unit, "better": value.better, "mean": mean.as_dict()}
        if theirs is not None:
            other = {(each.case, each.seed): each.values[name] for each in theirs if name in each.values}
            pairs = [key for key in known if key in other]
            with_them = statistics.paired_ratio if value.compared == "ratio" else statistics.paired_difference
            against = with_them([known[p] for p in pairs], [other[p] for p in pairs], [case for case, _ in pairs])
            found[name] |= {"compared": value.compared, "against": against.as_dict()}
    return found


# ---- compare


@dataclass(frozen=True)
class GalleryComparison:
    """Gallery a minus gallery b. by: the metric, or the judges, in words. found: the difference with its interval;
    `found.outcome` is better, worse, or not: not shown."""

    a: ScoredGallery
    b: ScoredGallery
    by: str
    found: Comparison


def compare_galleries(
    a: str | Path,
    b: str | Path,
    *,
    margin: float = 0.0,
    judges: Sequence[str] | None = None,
    metric: str | None = None,
) -> GalleryComparison:
    """Whether a is better than b, by more than the margin, on the same cases and seeds.

    Args:
        margin: the difference below which none matters, in the score's unit.
        judges: by these; all that both galleries have if not given.
        metric: by a metric instead, or one of its values: flat_noise, text.cer.

    Raises:
        GalleryError: different suites, nothing to compare, or too little of it.
    """
    if margin < 0:
        raise GalleryError(f"a margin of {margin:g} is below 0; it is the difference below which none matters")
    ours, theirs = open_scored_galleries([Path(a), Path(b)])
    if metric is None:
        scores = shared_judges([ours, theirs], judges)
        found = compare(scores[ours.system], scores[theirs.system], margin)
        by = "judges " + ", ".join(scores[ours.system])
    elif judges:
        raise GalleryError("compare by --judge or by --metric, not by both")
    else:
        by, found = metric, _by_metric(ours, theirs, metric, margin)
    _refuse_gaps(found, ours, theirs)
    return GalleryComparison(ours, theirs, by, found)


def _by_metric(ours: ScoredGallery, theirs: ScoredGallery, name: str, margin: float) -> Comparison:
    """Of what the metric applies to in both."""
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


# ---- rank


@dataclass(frozen=True)
class GalleryRanking:
    """Systems, best first, those whose rank is withheld at the end. agreement: of each pair of judges. left_out: judges
    that have not seen every gallery, where none was named."""

    galleries: tuple[ScoredGallery, ...]
    entries: tuple[LeaderboardEntry, ...]
    agreement: Mapping[str, Mapping[str, Any]]
    left_out: tuple[str, ...]


def rank_galleries(folders: Sequence[str | Path], *, judges: Sequence[str] | None = None) -> GalleryRanking:
    """Galleries of one suite in the order of their judges' scores, with intervals and with bands of those that cannot
    be told apart.

    Args:
        judges: by these; all that every gallery has if not given.

    Raises:
        GalleryError: different suites, or a judge that has not seen all. JudgeError: two judges under one name.
    """
    galleries = open_scored_galleries([Path(folder) for folder in folders])
    scores = shared_judges(galleries, judges)
    left_out = () if judges is not None else tuple(_left_out(galleries, scores))
    return GalleryRanking(tuple(galleries), tuple(leaderboard(scores)), judge_agreement(scores), left_out)


def _left_out(galleries: Sequence[ScoredGallery], scores: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The judges that some gallery has and another lacks."""
    used = {judge for by_judge in scores.values() for judge in by_judge}
    return sorted({judge for each in galleries for judge in each.judges()} - used)
