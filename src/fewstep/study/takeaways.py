"""The paper's six takeaways, as contrasts, and a study's verdict on each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import Any, Literal

from pydantic import Field

from fewstep.runtime import strict_yaml
from fewstep.runtime.section import Section
from fewstep.runtime.task import Task
from fewstep.study import paper
from fewstep.study.intervals import Interval
from fewstep.study.plan import StudyPlan
from fewstep.study.power import cases_to_decide, runs_to_decide, unfit
from fewstep.study.premises import PremiseResult
from fewstep.study.scores import (
    EXACT,
    ExaminedRuns,
    ScoreRow,
    common_judges,
    contrast,
    level,
)

TakeawayVerdict = Literal["reproduced", "not reproduced", "undecided", "premise absent"]
REPRODUCED: TakeawayVerdict = "reproduced"
NOT_REPRODUCED: TakeawayVerdict = "not reproduced"
UNDECIDED: TakeawayVerdict = "undecided"
PREMISE_ABSENT: TakeawayVerdict = "premise absent"
CEILING = 4.9  # ours: if all rows are above it, the examination is too easy to show by how much they differ
TOO_EASY = f"all rows score above {CEILING} of 5: the examination is too easy to tell them apart"


class Claim(Section):
    """One contrast. Rows are named as in scores.py."""

    says: str
    task: Task
    categories: tuple[str, ...] | None = None
    higher: tuple[str, ...] = Field(min_length=1)
    lower: tuple[str, ...] = Field(min_length=1)
    kind: Literal["more", "not-less"]
    margin: float = Field(gt=0)


class Takeaway(Section):
    """One conclusion of the paper, and the study that answers it."""

    number: int
    study: str
    says: str
    claims: tuple[Claim, ...] = Field(min_length=1)


@dataclass(frozen=True)
class ClaimResult:
    """A study's verdict on a claim.

    found: None if its rows have not been examined. why: the reason, other than the interval, why it was not decided.
    in_paper: the same difference in the paper's tables, if they print both rows. in_db: the difference in dB to the
    exact answer, which has no ceiling; it does not enter the verdict. categories: how many the claim is over.
    """

    claim: Claim
    found: Interval | None
    verdict: TakeawayVerdict
    why: str | None
    in_paper: float | None
    in_db: Interval | None = None
    categories: int = 1


@cache
def takeaways() -> tuple[Takeaway, ...]:
    """All six, in order."""
    file = resources.files("fewstep") / "study" / "takeaways.yaml"
    raw = strict_yaml.load_yaml(file.read_text(encoding="utf-8"), "takeaways.yaml")
    return tuple(Takeaway.model_validate(entry) for entry in raw)


def claim_verdict(claim: Claim, found: Interval | None, pressed: bool = False) -> TakeawayVerdict:
    """The verdict that the interval allows.

    more: reproduced if the whole interval, and every run by itself, is above 0; not reproduced if the whole interval is
    below the margin, so any difference is too small to matter; else undecided. not-less: reproduced if the whole
    interval, and every run, is above -margin; not reproduced if all of it is below.

    Args:
        pressed: all rows are near the ceiling, which makes differences smaller but does not reverse them. So nothing is
            concluded from a small difference; one beyond the threshold still counts.
    """
    if found is None or found.low is None or found.high is None:
        return UNDECIDED
    more = claim.kind == "more"
    bar = 0.0 if more else -claim.margin
    if found.low > bar and all(value > bar for value in found.by_seed) and (more or not pressed):
        return REPRODUCED
    if found.high < (claim.margin if more and not pressed else bar):
        return NOT_REPRODUCED
    return UNDECIDED


def combined_verdict(verdicts: Sequence[TakeawayVerdict]) -> TakeawayVerdict:
    """A takeaway is reproduced if all its claims are, and not reproduced if any is not."""
    if NOT_REPRODUCED in verdicts:
        return NOT_REPRODUCED
    return REPRODUCED if set(verdicts) == {REPRODUCED} else UNDECIDED


def claim_result(
    claim: Claim, examined: ExaminedRuns, measured: ExaminedRuns, columns: Mapping[str, Sequence[str]]
) -> ClaimResult:
    """examined: the rows' scores; measured: their measurements; columns: the categories of each task."""
    categories = claim.categories or tuple(columns.get(claim.task, ()))
    printed = in_paper(claim, examined.manifest.plan)
    higher, lower = _sides(claim, examined)
    if not (higher and lower and categories):
        return ClaimResult(claim, None, UNDECIDED, "not examined yet", printed)
    rows, judges = [*higher, *lower], common_judges([*higher, *lower])
    found = contrast(higher, lower, judges, claim.task, categories)
    in_db = contrast(*_sides(claim, measured), [EXACT], claim.task, categories)
    if found is None:
        return ClaimResult(claim, None, UNDECIDED, None, printed, in_db)
    means = [level(row, judge, claim.task, categories) for row in rows for judge in judges]
    pressed = all(mean is not None and mean.value > CEILING for mean in means)
    why = unfit(found, len(categories))
    verdict = UNDECIDED if why else claim_verdict(claim, found, pressed)
    why = TOO_EASY if pressed and verdict == UNDECIDED else why
    return ClaimResult(claim, found, verdict, why, printed, in_db, len(categories))


def _sides(claim: Claim, examined: ExaminedRuns) -> tuple[list[ScoreRow], list[ScoreRow]]:
    """The rows of both sides; none on both if one row has not been examined."""
    higher, lower = ([examined.row(name) for name in names] for names in (claim.higher, claim.lower))
    if None in (*higher, *lower):
        return [], []
    return [row for row in higher if row], [row for row in lower if row]


def in_paper(claim: Claim, plan: StudyPlan) -> float | None:
    """The claim's difference in the paper's own numbers, averaged over judges; None if some row is not printed."""
    for table in plan.tables:
        if table.paper is None or table.task != claim.task:
            continue
        printed = paper.tables()[table.paper]
        names = [[table.rows.get(name) for name in names] for names in (claim.higher, claim.lower)]
        if any(name is None for side in names for name in side):
            continue
        categories = claim.categories or printed.columns
        over, under = (sum(printed.score(str(name), categories) for name in side) / len(side) for side in names)
        return over - under
    return None


def with_premises(verdict: TakeawayVerdict, premises: Sequence[PremiseResult]) -> TakeawayVerdict:
    """The verdict where a premise fails: nothing was on trial. While one is unclear, or not examined, "not reproduced"
    could be its fault and is no verdict either."""
    states = {premise.state for premise in premises}
    if "absent" in states:
        return PREMISE_ABSENT
    return UNDECIDED if verdict == NOT_REPRODUCED and states - {"present"} else verdict


def takeaway_summary(
    takeaway: Takeaway, answers: Sequence[ClaimResult], premises: Sequence[PremiseResult] = ()
) -> dict[str, Any]:
    """A takeaway with its answers and the premises that it needs, as JSON."""
    needed = [each for each in premises if takeaway.number in (each.premise.takeaways or (takeaway.number,))]
    claims = [
        {
            "says": answer.claim.says,
            "kind": answer.claim.kind,
            "margin": answer.claim.margin,
            "verdict": answer.verdict,
            "why": answer.why,
            "found": None if answer.found is None else answer.found.as_dict(),
            "in_db": None if answer.in_db is None else answer.in_db.as_dict(),
            "paper": None if answer.in_paper is None else round(answer.in_paper, 4),
            "runs_to_decide": _to_decide(answer, runs_to_decide),
            "cases_to_decide": _to_decide(answer, partial(cases_to_decide, categories=answer.categories)),
        }
        for answer in answers
    ]
    verdict = with_premises(combined_verdict([answer.verdict for answer in answers]), needed)
    names = [each.name for each in needed]
    return {"number": takeaway.number, "says": takeaway.says, "verdict": verdict, "premises": names, "claims": claims}


def _to_decide(answer: ClaimResult, needed: Callable[[Interval, float], int | None]) -> int | None:
    """For a claim that its interval leaves undecided: what would decide it, if the difference stays."""
    if answer.verdict != UNDECIDED or answer.why or answer.found is None:
        return None
    wanted = [needed(answer.found, bar) for bar in _reachable_bars(answer.claim, answer.found)]
    return min((number for number in wanted if number is not None), default=None)


def _reachable_bars(claim: Claim, found: Interval) -> list[float]:
    """The bars that the interval may come to lie wholly beyond. Above the first one every run has to agree, so a run
    that does not leaves it out of reach."""
    above, below = (0.0, claim.margin) if claim.kind == "more" else (-claim.margin, -claim.margin)
    agreed = found.value > above and all(value > above for value in found.by_seed)
    return [*([above] if agreed else []), *([below] if found.value < below else [])]
