"""The rank table and how far it can be trusted: intervals, P(rank), and bands of systems that cannot be told apart.

All systems are resampled together (`resampling.py`), so statements about an order rest on paired differences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fewstep.bench import ranks
from fewstep.bench.comparison import LEAST_CASES
from fewstep.bench.coverage import Coverage, coverage_of_cells
from fewstep.bench.resampling import (
    Scores,
    bootstrap_estimate,
    cases_by_category,
    categories_of,
    cell_means,
    judges_of,
    resampled_cell_means,
)
from fewstep.bench.statistics import (
    LEVEL,
    Estimate,
    Floats,
)


@dataclass(frozen=True)
class LeaderboardEntry:
    """One system. rank is None if it is withheld; `why` states the reason. band: a system is not shown to be worse than
    the best system of its band; too few cases for a conclusion (`LEAST_CASES`) show nothing. p_rank[r - 1]: share of
    resamples in which it is r-th; NaN if there are too few."""

    system: str
    rank: int | None
    band: int | None
    overall: Estimate
    judges: Mapping[str, Estimate]
    cells: Mapping[str, Mapping[str, Estimate]]  # judge -> category
    coverage: Mapping[str, Coverage]  # by judge
    p_rank: tuple[float, ...] = ()
    other_rules: Mapping[str, int] = field(default_factory=dict)
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"coverage": {name: each.as_dict() for name, each in self.coverage.items()}}


def leaderboard(scores: Scores, seed: int = 0) -> list[LeaderboardEntry]:
    """Best first; systems without a rank come last. Ranks count only the systems that have one.

    scores: for every system, judge and category a record for each case and seed asked; its score is None if missing.
    All systems must have the same judges and categories.
    """
    ranked = {name: judges for name, judges in scores.items() if why_unranked(judges) is None}
    rest = {name: judges for name, judges in scores.items() if name not in ranked}
    found = _ranked(ranked, seed) if ranked else []
    for name, judges in rest.items():
        alone = {name: judges}
        drawn = _Drawn(alone, cell_means(alone), resampled_cell_means(alone, seed))
        found.append(drawn.standing(0, rank=None, band=None, why=why_unranked(judges)))
    return found


def why_unranked(judges: Mapping[str, Mapping[str, Sequence[Any]]]) -> str | None:
    """Why a system gets no rank; None if it gets one."""
    for judge, cells in judges.items():
        each = coverage_of_cells(cells)
        if not each.enough:
            return f"{judge} scored {each.scored:,} of {each.asked:,} ({100 * each.share:.1f} %)"
        if each.mean is None:
            return f"{judge} scored nothing in {', '.join(c for c, r in cells.items() if not _scored(r))}"
    return None


def _scored(records: Sequence[Any]) -> bool:
    return any(score is not None for _, _, score in records)


def _ranked(scores: Scores, seed: int) -> list[LeaderboardEntry]:
    drawn = _Drawn(scores, cell_means(scores), resampled_cell_means(scores, seed))
    points, resampled = drawn.means.mean((1, 2)), drawn.resampled.mean((2, 3))
    table = drawn.table()
    by_rule = {rule: ranks.ranks(table, of) for rule, of in ranks.RULES.items()}
    order = np.argsort(-points, kind="stable")
    enough = sum(cases_by_category(scores).values()) >= LEAST_CASES
    told_apart = bands(points[order], resampled[:, order]) if enough else [1] * len(order)
    band_of = dict(zip(order.tolist(), told_apart, strict=True))
    p, names = p_rank(resampled if enough else np.full_like(resampled, np.nan)), list(scores)
    return [
        drawn.standing(
            i,
            rank=by_rule["paper"][names[i]],
            band=band_of[i],
            p_rank=tuple(p[i].tolist()),
            other_rules={rule: found[names[i]] for rule, found in by_rule.items() if rule != "paper"},
        )
        for i in order.tolist()
    ]


def p_rank(drawn: Floats) -> Floats:
    """(systems, systems): row i, column r - 1 is the share of resamples (rows of `drawn`) in which system i is r-th.
    All NaN if nothing could be resampled."""
    n = drawn.shape[1]
    if np.isnan(drawn).any():
        return np.full((n, n), np.nan)
    at = ranks.places(drawn)
    return np.stack([(at == r + 1).mean(axis=0) for r in range(n)], axis=1)


def bands(points: Floats, drawn: Floats) -> list[int]:
    """Band number of each system; the systems come in falling order of points. A band holds those not shown to be worse
    than its first. Shown: the difference exceeds the 95 % quantile of the largest of ALL pairs' differences under
    resampling. This max-t correction (Westfall and Young 1993) keeps a pair from being separated only because many
    pairs were looked at."""
    n = len(points)
    if n == 1:
        return [1]
    if np.isnan(drawn).any():
        return [1] * n
    gaps = drawn[:, :, None] - drawn[:, None, :]
    centre = points[:, None] - points[None, :]
    spread = gaps.std(axis=0, ddof=1)
    certain = spread < 1e-12  # identical scores, or a difference without any spread
    t = np.where(certain, 0.0, np.abs(gaps - centre) / np.where(certain, 1.0, spread))
    limit = np.quantile(t.reshape(len(t), -1).max(axis=1), LEVEL)
    apart = centre > np.where(certain, 1e-9, limit * spread)
    found, first, band = [], 0, 1
    for i in range(n):
        if apart[first, i]:
            first, band = i, band + 1
        found.append(band)
    return found


@dataclass(frozen=True)
class _Drawn:
    """Scores with their cell means (systems, judges, categories), and these resampled."""

    scores: Scores
    means: Floats
    resampled: Floats

    def standing(self, i: int, **rest: Any) -> LeaderboardEntry:
        """System i's means with their intervals. `rest`: the entry's other fields."""
        name, judges, categories = list(self.scores)[i], judges_of(self.scores), categories_of(self.scores)
        cells = {
            judge: {c: self._estimate(i, [j], [k]) for k, c in enumerate(categories)} for j, judge in enumerate(judges)
        }
        every_judge, every_category = range(len(judges)), range(len(categories))
        return LeaderboardEntry(
            system=name,
            overall=self._estimate(i, every_judge, every_category),
            judges={judge: self._estimate(i, [j], every_category) for j, judge in enumerate(judges)},
            cells=cells,
            coverage={judge: coverage_of_cells(self.scores[name][judge]) for judge in judges},
            **rest,
        )

    def _estimate(self, i: int, judges: Sequence[int], categories: Sequence[int]) -> Estimate:
        """Of the plain mean over these cells of system i."""
        at = np.ix_(judges, categories)
        names, sizes = categories_of(self.scores), list(cases_by_category(self.scores).values())
        of_system = list(self.scores.values())[i]
        records = [
            r for j in judges for k in categories for r in of_system[judges_of(self.scores)[j]].get(names[k], ())
        ]
        return bootstrap_estimate(
            float(self.means[i][at].mean()),
            self.resampled[:, i][:, at[0], at[1]].mean((1, 2)),
            n=sum(score is not None for *_, score in records),
            clusters=sum(sizes[k] for k in categories),
            strata=len(categories),
        )

    def table(self) -> ranks.CategoryMeans:
        judges, categories = judges_of(self.scores), categories_of(self.scores)
        return {
            system: {
                judge: {c: float(self.means[s, j, k]) for k, c in enumerate(categories)}
                for j, judge in enumerate(judges)
            }
            for s, system in enumerate(self.scores)
        }
