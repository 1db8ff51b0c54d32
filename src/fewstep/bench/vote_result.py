"""What votes say: who is preferred and how surely, how many more votes would tell, and whether other judges agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import scipy  # its parts are imported when they are first used

from fewstep.bench import statistics
from fewstep.bench.agreement import kendall, krippendorff
from fewstep.bench.comparison import Comparison, compare
from fewstep.bench.pair_verdict import FOLDER, PairVerdict, folder_name, read_pairs
from fewstep.bench.statistics import SHARE, Estimate
from fewstep.bench.verdict import read_verdicts, scores_by_picture
from fewstep.bench.votes import Ballot

Points = Mapping[
    tuple[str, int], float
]  # of each case and seed: 1 the first system is better, 0 the other, 0.5 neither


@dataclass(frozen=True)
class JudgeAgreement:
    """A voter and another judge on the pairs that both answered. same: share of pairs with the same answer. kendall,
    alpha: of the points, as in `agreement`. kind: "pairs", or "scores" where the judge rates single pictures and its
    answer is the sign of the difference."""

    judge: str
    kind: str
    n: int
    same: Estimate
    kendall: float | None
    alpha: float | None


@dataclass(frozen=True)
class VoteResult:
    """Told of the first system. share: of its wins, ties half. lead: share of wins minus losses, the mean of the
    categories. better: the chance that it is preferred in more than half of the cases that are decided. still: cases
    that are still needed to resolve the present lead with power 0.8; None if that cannot be said. left: the left
    picture's share of wins minus the right one's."""

    systems: tuple[str, str]
    wins: int
    ties: int
    losses: int
    share: Estimate
    lead: Comparison
    better: float | None
    still: int | None
    left: Estimate
    others: tuple[JudgeAgreement, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"lead": self.lead.as_dict(), "unspoken": self.lead.too_few}


def vote_result(ballot: Ballot, votes: Sequence[PairVerdict]) -> VoteResult:
    """The result of these votes of a ballot."""
    first, judge = ballot.systems[0], ballot.judge
    points = points_of(votes, first)
    cells: dict[str, dict[str, list[tuple[str, int, float | None]]]] = {"a": {}, "b": {}}
    for vote in votes:
        if (key := (vote.case, vote.seed)) in points:
            cells["a"].setdefault(vote.category, []).append((*key, points[key]))
            cells["b"].setdefault(vote.category, []).append((*key, 1 - points[key]))
    lead = compare({judge: cells["a"]}, {judge: cells["b"]})
    needed = lead.needed
    answered = [vote for vote in votes if vote.won is not None]
    return VoteResult(
        systems=ballot.systems,
        wins=sum(point == 1 for point in points.values()),
        ties=sum(point == 0.5 for point in points.values()),
        losses=sum(point == 0 for point in points.values()),
        share=statistics.mean(list(points.values()), [case for case, _ in points], bounds=SHARE),
        lead=lead,
        better=chance_of_better(points),
        still=None if needed is None else max(0, needed - lead.overall.clusters),
        left=statistics.mean(
            [{"first": 1.0, "tie": 0.0, "second": -1.0}[str(vote.won)] for vote in answered],
            [vote.case for vote in answered],
            bounds=(-1.0, 1.0),
        ),
        others=tuple(_others(ballot, points)),
    )


def points_of(verdicts: Sequence[PairVerdict], system: str) -> dict[tuple[str, int], float]:
    """By case and seed, what a judge says of `system` against the other: the mean of its answers in both orders and all
    repeats."""
    found: dict[tuple[str, int], list[float]] = {}
    for verdict in verdicts:
        if verdict.won is not None:
            winner = {"first": verdict.first, "second": verdict.second}.get(verdict.won)
            point = 0.5 if winner is None else float(folder_name(winner) == folder_name(system))
            found.setdefault((verdict.case, verdict.seed), []).append(point)
    return {key: sum(points) / len(points) for key, points in found.items()}


def chance_of_better(points: Points) -> float | None:
    """The posterior probability that more than half of the decided cases prefer the first system, from a uniform
    prior: with w cases for it and l against it, the part of Beta(w + 1, l + 1) above 1/2. Seeds of one case are one
    vote, since they are not independent. None if no case is decided."""
    cases: dict[str, float] = {}
    for (case, _), point in points.items():
        cases[case] = cases.get(case, 0.0) + point - 0.5
    won, lost = sum(sign > 0 for sign in cases.values()), sum(sign < 0 for sign in cases.values())
    return None if won + lost == 0 else float(scipy.special.betainc(lost + 1, won + 1, 0.5))


def _others(ballot: Ballot, points: Points) -> list[JudgeAgreement]:
    first, second = ballot.systems
    found = []
    for system, other in ((first, second), (second, first)):
        folder = ballot.galleries[system].folder / FOLDER / folder_name(other)
        for file in sorted(folder.glob("*.jsonl")):
            if not file.name.endswith(".attempts.jsonl") and file.stem != ballot.judge:
                found.append(_agreement(file.stem, "pairs", points, points_of(read_pairs(file), first)))
    ours, theirs = (read_verdicts(ballot.galleries[system].folder) for system in ballot.systems)
    for judge in ours.keys() & theirs.keys():
        mine, others = scores_by_picture(ours[judge]), scores_by_picture(theirs[judge])
        gaps = {key: mine[key] - others[key] for key in mine.keys() & others.keys()}
        found.append(_agreement(judge, "scores", points, {key: _side(gap) for key, gap in gaps.items()}))
    return sorted((one for one in found if one.n), key=lambda one: (one.kind, one.judge))


def _agreement(judge: str, kind: str, ours: Points, theirs: Points) -> JudgeAgreement:
    both = [key for key in ours if key in theirs]
    x, y = [ours[key] for key in both], [theirs[key] for key in both]
    same = [float(_side(a - 0.5) == _side(b - 0.5)) for a, b in zip(x, y, strict=True)]
    estimate = statistics.mean(same, [case for case, _ in both], bounds=SHARE)
    return JudgeAgreement(judge, kind, len(both), estimate, kendall(x, y), krippendorff([x, y]) if both else None)


def _side(gap: float) -> float:
    return 0.5 if gap == 0 else float(gap > 0)
