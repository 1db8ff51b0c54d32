"""Rank rules.

The paper's rule: a system's average under a judge is the plain mean of its category means, and systems are ranked by
the mean of their averages over judges, unrounded, best first. The paper does not state it, but it reproduces all 18
printed ranks. The other rules show how much the order depends on the rule.
"""

from collections.abc import Callable, Mapping

import numpy as np

from fewstep.bench.statistics import Floats

CategoryMeans = Mapping[str, Mapping[str, Mapping[str, float]]]  # system, judge, category -> mean score
SAME = 1e-9  # sums of the same numbers in another order differ by less


def average(categories: Mapping[str, float]) -> float:
    """The plain mean of category means: every category has the same weight, however many cases it has."""
    return sum(categories.values()) / len(categories)


def averages(table: CategoryMeans) -> dict[str, dict[str, float]]:
    """By system and judge, unrounded."""
    return {
        system: {judge: average(categories) for judge, categories in judges.items()} for system, judges in table.items()
    }


def mean_over_judges(judges: Mapping[str, float]) -> float:
    return sum(judges.values()) / len(judges)


def places(points: Floats) -> Floats:
    """Ranks of rows of points, 1 for the most. Equal points share the better rank; NaN stays NaN."""
    kept = np.where(np.isnan(points), -np.inf, np.round(points / SAME) * SAME)
    ranks = 1 + _beaten_by(kept)
    return np.where(np.isnan(points), np.nan, ranks)


def ranks(table: CategoryMeans, rule: "Callable[[CategoryMeans], dict[str, float]] | None" = None) -> dict[str, int]:
    """Rank of each system, 1 the best, by the paper's rule or by another of `RULES`."""
    points = (rule or paper_rule)(table)
    return {name: int(rank) for name, rank in zip(points, places(np.array(list(points.values()))), strict=True)}


# ---- rules: points of each system, more is better


def paper_rule(table: CategoryMeans) -> dict[str, float]:
    """The mean over judges of averages."""
    return {system: mean_over_judges(judges) for system, judges in averages(table).items()}


def mean_rank(table: CategoryMeans) -> dict[str, float]:
    """The mean over judges of the rank under each: strict and mild judges have the same weight."""
    by_judge = averages(table)
    judges = list(next(iter(by_judge.values())))
    found = np.array([_middle_ranks([by_judge[system][judge] for system in table]) for judge in judges])
    return dict(zip(table, (-found.mean(axis=0)).tolist(), strict=True))


def borda(table: CategoryMeans) -> dict[str, float]:
    """In each cell (judge and category), a point for every system beaten and half a point for every equal one; the mean
    over cells (Borda 1781)."""
    cells = [(judge, category) for judge, known in next(iter(table.values())).items() for category in known]
    found = np.array([_middle_ranks([table[system][judge][category] for system in table]) for judge, category in cells])
    return dict(zip(table, (len(table) - found.mean(axis=0)).tolist(), strict=True))


def strictest_judge(table: CategoryMeans) -> dict[str, float]:
    """The lowest of the judges' averages: a system is good if every judge calls it good."""
    return {system: min(judges.values()) for system, judges in averages(table).items()}


def weakest_category(table: CategoryMeans) -> dict[str, float]:
    """The lowest category mean, averaged over judges."""
    return {
        system: min(mean_over_judges({j: judges[j][c] for j in judges}) for c in next(iter(judges.values())))
        for system, judges in table.items()
    }


RULES: dict[str, Callable[[CategoryMeans], dict[str, float]]] = {
    "paper": paper_rule,
    "mean rank": mean_rank,
    "Borda": borda,
    "strictest judge": strictest_judge,
    "weakest category": weakest_category,
}


def _middle_ranks(points: list[float]) -> Floats:
    """Equal points share the middle of their ranks."""
    kept = np.round(np.array(points) / SAME) * SAME
    equals = (kept[:, None] == kept).sum(axis=-1)
    return _beaten_by(kept) + (1 + equals) / 2


def _beaten_by(points: Floats) -> Floats:
    """For each entry, how many in its row have more points."""
    return np.asarray((points[..., None, :] > points[..., :, None]).sum(axis=-1), dtype=np.float64)
