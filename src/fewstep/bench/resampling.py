"""The bootstrap of averages: stratified by category, clustered by case, paired over systems and judges.

The average of a system is the plain mean of its category means. To estimate how far chance moves it, each category's
cases are resampled with replacement (Efron 1979). Whole cases are drawn, with all their seeds, because the seeds of one
prompt are not independent. One resample serves every system and every judge, so the effect of a hard case on all of
them cancels in their differences.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fewstep.bench.statistics import (
    LEVEL,
    RESAMPLES,
    Estimate,
    Floats,
    without_spread,
)
from fewstep.bench.student_t import normal_tail, t_quantile

ScoreRecord = tuple[str, int, float | None]  # case, seed, score; None where a score is missing
Cells = Mapping[str, Sequence[ScoreRecord]]  # by category
Scores = Mapping[str, Mapping[str, Cells]]  # by system, then by judge


def categories_of(scores: Scores) -> list[str]:
    """Every category of any system, in alphabetical order, so that draws do not depend on the order of reading."""
    return sorted({name for judges in scores.values() for cells in judges.values() for name in cells})


def judges_of(scores: Scores) -> list[str]:
    return list(dict.fromkeys(judge for judges in scores.values() for judge in judges))


def cell_means(scores: Scores) -> Floats:
    """(systems, judges, categories): the mean of the existing scores; NaN if there is none."""
    shape = len(scores), len(judges_of(scores)), 0
    cells = [_mean(sums.sum(-1), counts.sum(-1))[..., None] for sums, counts in _tallies(scores)]
    return np.concatenate([np.empty(shape), *cells], axis=-1)


def resampled_cell_means(scores: Scores, seed: int = 0) -> Floats:
    """(RESAMPLES, systems, judges, categories). A resample underestimates the variance by the factor (n - 1) / n, with
    n the category's cases. So deviations from the cell's own mean are multiplied by sqrt(n / (n - 1)). NaN if there are
    fewer than two cases."""
    rng = np.random.default_rng(seed)
    shape = RESAMPLES, len(scores), len(judges_of(scores)), 0
    cells = [_resampled(sums, counts, rng)[..., None] for sums, counts in _tallies(scores)]
    return np.concatenate([np.empty(shape), *cells], axis=-1)


def cases_by_category(scores: Scores) -> dict[str, int]:
    """Cases with at least one score, of any system and judge."""
    return {name: counts.shape[-1] for name, (_, counts) in zip(categories_of(scores), _tallies(scores), strict=True)}


def bootstrap_estimate(value: float, drawn: Floats, n: int, clusters: int, strata: int) -> Estimate:
    """The percentile interval of the resampled values, slightly expanded if clusters are few: the variance is estimated
    on clusters - strata degrees of freedom. NaN becomes None: there is no such number. No interval without spread."""
    known = None if np.isnan(value) else value
    if known is None or np.isnan(drawn).any() or clusters <= strata or without_spread(drawn):
        return Estimate(known, None, None, n, clusters)
    tail = normal_tail(t_quantile(clusters - strata, LEVEL))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(known, float(low), float(high), n, clusters)


def _tallies(scores: Scores) -> list[tuple[Floats, Floats]]:
    """For each category: sums and numbers of scores, (systems, judges, cases)."""
    judges = judges_of(scores)
    return [_tally(scores, judges, category) for category in categories_of(scores)]


def _tally(scores: Scores, judges: Sequence[str], category: str) -> tuple[Floats, Floats]:
    order: dict[str, int] = {}
    rows: list[tuple[int, int, int, float]] = []
    for s, of_system in enumerate(scores.values()):
        for j, judge in enumerate(judges):
            for case, _, score in of_system.get(judge, {}).get(category, ()):
                if score is not None:
                    rows.append((s, j, order.setdefault(case, len(order)), score))
    sums, counts = np.zeros((2, len(scores), len(judges), len(order)))
    for s, j, case_number, score in rows:
        sums[s, j, case_number] += score
        counts[s, j, case_number] += 1
    return sums, counts


def _resampled(sums: Floats, counts: Floats, rng: np.random.Generator) -> Floats:
    """(RESAMPLES, systems, judges)."""
    n = sums.shape[-1]
    if n < 2:
        return np.full((RESAMPLES, *sums.shape[:-1]), np.nan)
    times = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    drawn = _mean(*(np.tensordot(times, each, axes=(1, 2)) for each in (sums, counts)))
    centre = _mean(sums.sum(-1), counts.sum(-1))
    return centre + (drawn - centre) * np.sqrt(n / (n - 1))


def _mean(sums: Floats, counts: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return sums / np.where(counts > 0, counts, np.nan)
