"""Strengths from duels: Davidson's model with ties and the advantage of being shown first; and plain win rates.

Davidson (1970), with the order effect of Davidson and Beaver (1977), in logarithms: strength s_i = log pi_i,

    P(first wins) : P(second wins) : P(tie)  =  exp(s_i + delta) : exp(s_j) : exp(nu + (s_i + s_j + delta) / 2)

delta is the advantage of the first place; exp(nu) is the judge's tendency to call a tie. Without ties and with delta =
0 this is the model of Bradley and Terry (1952). If a system wins or loses every duel, the likelihood alone has no
maximum; a weak normal prior on the strengths keeps them finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its parts are imported when they are first used
from numpy.typing import NDArray

from fewstep.bench import statistics
from fewstep.bench.statistics import (
    LEVEL,
    SHARE,
    Estimate,
    Floats,
)
from fewstep.bench.student_t import t_quantile

PRIOR_SD = 3.0  # ours; log odds: 95 % of strengths lie within a 400-fold advantage, and 1,000 duels outweigh it
NO_SPREAD = 1e-4  # ours; log odds: less is the solver's tolerance, as where every answer is a tie
Won = Literal["first", "second", "tie"]


@dataclass(frozen=True)
class Duel:
    """One answer of a judge who saw two systems' pictures of one case, in the order first, second."""

    case: str
    first: str
    second: str
    won: Won


@dataclass(frozen=True)
class Strengths:
    """Strengths in log odds, their mean 0. first_place: delta, as an advantage in log odds. tie: the share of ties
    between equals. None if no duel could tell: no tie, or every pair always shown in one order."""

    systems: dict[str, Estimate]
    first_place: Estimate
    tie: float


def davidson(duels: Sequence[Duel], prior_sd: float = PRIOR_SD, order_effect: bool = True) -> Strengths:
    """Fits strengths. Intervals are normal, with the sandwich covariance clustered by case (Liang and Zeger 1986).

    prior_sd: of the strengths, in log odds. Infinity means no prior; then every system must have won and lost (or tied)
    somewhere.
    """
    assert duels, "no duel, no strength"
    design = _design(duels)
    ties = bool((design.won == 2).any())
    free = np.ones(design.size, dtype=bool)
    free[-2], free[-1] = order_effect, ties
    start = np.zeros(design.size)
    start[-1] = 0.0 if ties else -np.inf
    ready = _Fit(design, free, start, prior_sd)
    found = scipy.optimize.minimize(
        ready.loss, start[free], jac=ready.slope, hess=ready.curvature, method="trust-exact"
    )
    covariance = ready.covariance(found.x)
    return _strengths(design, ready.whole(found.x), free, covariance)


def win_rates(duels: Sequence[Duel]) -> dict[tuple[str, str], Estimate]:
    """(a, b) -> the share of their duels that a won, ties counting half, both orders together. Intervals resample whole
    cases."""
    points: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for duel in duels:
        of_first = {"first": 1.0, "tie": 0.5, "second": 0.0}[duel.won]
        points.setdefault((duel.first, duel.second), []).append((of_first, duel.case))
        points.setdefault((duel.second, duel.first), []).append((1 - of_first, duel.case))
    return {
        pair: statistics.mean([p for p, _ in each], [case for _, case in each], bounds=SHARE)
        for pair, each in points.items()
    }


@dataclass(frozen=True)
class _Design:
    """rows: (duels, 3, parameters), the coefficients of each outcome's logit. The parameters are strengths, delta,
    nu."""

    systems: list[str]
    rows: Floats
    won: NDArray[np.intp]
    case: NDArray[np.intp]

    @property
    def size(self) -> int:
        return len(self.systems) + 2


def _design(duels: Sequence[Duel]) -> _Design:
    systems = sorted({name for duel in duels for name in (duel.first, duel.second)})
    at, cases = {name: i for i, name in enumerate(systems)}, {case: i for i, case in enumerate({d.case for d in duels})}
    first = np.array([at[duel.first] for duel in duels])
    second = np.array([at[duel.second] for duel in duels])
    each = np.arange(len(duels))
    rows = np.zeros((len(duels), 3, len(systems) + 2))
    rows[each, 0, first], rows[:, 0, -2] = 1, 1
    rows[each, 1, second] = 1
    rows[each, 2, first] = rows[each, 2, second] = rows[:, 2, -2] = 0.5
    rows[:, 2, -1] = 1
    won = np.array([("first", "second", "tie").index(duel.won) for duel in duels])
    return _Design(systems, rows, won, np.array([cases[duel.case] for duel in duels]))


@dataclass(frozen=True)
class _Fit:
    """The penalised likelihood of the free parameters. The likelihood depends only on differences of strengths, so it
    does not fix a common shift. The prior fixes it; without one, a unit penalty on the sum alone does."""

    design: _Design
    free: NDArray[np.bool_]
    fixed: Floats
    prior_sd: float

    def whole(self, x: Floats) -> Floats:
        full = self.fixed.copy()
        full[self.free] = x
        return full

    def _chances(self, x: Floats) -> Floats:
        full = self.whole(x)
        tie_logit = 0.0 if np.isfinite(full[-1]) else -np.inf
        logits = self.design.rows @ np.where(np.isfinite(full), full, 0.0)
        logits[:, 2] += tie_logit
        return np.asarray(scipy.special.softmax(logits, axis=1))

    def _penalty(self) -> Floats:
        m = len(self.design.systems)
        strengths = np.eye(m) / self.prior_sd**2 if np.isfinite(self.prior_sd) else np.full((m, m), 1.0)
        full = np.zeros((self.design.size, self.design.size))
        full[:m, :m] = strengths
        return full[np.ix_(self.free, self.free)]

    def loss(self, x: Floats) -> float:
        chosen = np.take_along_axis(self._chances(x), self.design.won[:, None], axis=1)
        return float(-np.log(chosen).sum() + 0.5 * x @ self._penalty() @ x)

    def _scores(self, x: Floats) -> Floats:
        """(duels, free parameters): the gradient of each duel's log likelihood."""
        rows = self.design.rows[:, :, self.free]
        seen = rows[np.arange(len(rows)), self.design.won]
        return np.asarray(seen - np.einsum("no,nop->np", self._chances(x), rows))

    def slope(self, x: Floats) -> Floats:
        return np.asarray(-self._scores(x).sum(axis=0) + self._penalty() @ x)

    def curvature(self, x: Floats) -> Floats:
        rows, p = self.design.rows[:, :, self.free], self._chances(x)
        mean = np.einsum("no,nop->np", p, rows)
        return np.asarray(np.einsum("no,nop,noq->pq", p, rows, rows) - mean.T @ mean + self._penalty())

    def covariance(self, x: Floats) -> Floats:
        """The sandwich estimate: duels of one case (both orders, several judges) are not independent."""
        scores, case = self._scores(x), self.design.case
        clusters = int(case.max()) + 1
        sums = np.zeros((clusters, scores.shape[1]))
        np.add.at(sums, case, scores)
        bread = np.linalg.pinv(self.curvature(x))
        return np.asarray(bread @ (sums.T @ sums) @ bread) * clusters / max(clusters - 1, 1)


def _strengths(design: _Design, full: Floats, free: NDArray[np.bool_], covariance: Floats) -> Strengths:
    m, n, clusters = len(design.systems), len(design.won), int(design.case.max()) + 1
    centred = np.eye(m) - 1 / m
    spread = np.sqrt(np.clip(np.diag(centred @ covariance[:m, :m] @ centred.T), 0, None))
    values = centred @ full[:m]
    place = Estimate(None, None, None, n, clusters)
    if free[-2]:
        place = _normal(full[-2], float(np.sqrt(max(0.0, covariance[m, m]))), n, clusters)
    return Strengths(
        systems={
            name: _normal(values[i], spread[i], int((design.rows[:, :2, i] > 0).any(axis=1).sum()), clusters)
            for i, name in enumerate(design.systems)
        },
        first_place=place,
        tie=float(1 / (1 + 2 * np.exp(-full[-1]))),
    )


def _normal(value: float, sd: float, n: int, clusters: int) -> Estimate:
    if clusters < 2 or sd < NO_SPREAD:
        return Estimate(float(value), None, None, n, clusters)
    reach = t_quantile(clusters - 1, LEVEL) * sd
    return Estimate(float(value), float(value - reach), float(value + reach), n, clusters)
