"""Every row of a study less one row that its file names as the baseline, pair by pair."""

from collections.abc import Sequence
from typing import Any

from fewstep.study.intervals import Interval
from fewstep.study.power import unfit
from fewstep.study.scores import (
    MEASURES,
    ExaminedRuns,
    ScoreRow,
    common_judges,
    contrast,
    measured_categories,
    with_average,
)


def differences(
    examined: ExaminedRuns, measured: ExaminedRuns, task: str, categories: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """As JSON: a row's name, its differences by category and on average, and those of its measurements. A pair is the
    same run seed and the same case.

    Args:
        examined: the rows' scores; measured: their measurements.
        names: the rows to compare with the baseline. One that has not been examined, or shares no run with it, has no
            differences. One with the baseline's own answers is left out.
    """
    baseline = examined.manifest.plan.baseline
    assert baseline is not None, "the study names one"
    base, base_measured = examined.row(baseline), measured.row(baseline)
    return [
        {
            "name": name,
            "scores": _scores(row, base, task, categories),
            "measures": _measures(measured.row(name), base_measured, task),
        }
        for name in names
        if name != baseline and not _same(row := examined.row(name), base, task)
    ]


def _same(row: ScoreRow | None, base: ScoreRow | None, task: str) -> bool:
    """Whether both are one system's answers, as the specialised teachers together are where there is one."""
    if row is None or base is None or row.answers.keys() != base.answers.keys():
        return False
    told = [
        {judge: {c: scores for c, scores in columns.items() if c[0] == task} for judge, columns in answers.items()}
        for each in (row, base)
        for answers in each.answers.values()
    ]
    half = len(told) // 2
    return told[:half] == told[half:]


def _scores(
    row: ScoreRow | None, base: ScoreRow | None, task: str, categories: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    columns = with_average(categories)
    if row is None or base is None:
        return dict.fromkeys(columns)
    judges = common_judges([row, base])
    return {column: _difference(row, base, judges, task, members) for column, members in columns.items()}


def _measures(row: ScoreRow | None, base: ScoreRow | None, task: str) -> dict[str, dict[str, Any]]:
    if row is None or base is None:
        return {}
    told = {m: _difference(row, base, [m], task, measured_categories(base, m, task)) for m in MEASURES}
    return {measure: found for measure, found in told.items() if found is not None}


def _difference(
    row: ScoreRow, base: ScoreRow, judges: Sequence[str], task: str, categories: Sequence[str]
) -> dict[str, Any] | None:
    found = contrast([row], [base], judges, task, categories)
    return None if found is None else found.as_dict() | {"sure": is_sure(found, len(categories))}


def is_sure(found: Interval, categories: int) -> bool:
    """Whether the whole interval, and every run by itself, is on one side of 0, and the cases allow a conclusion."""
    if found.low is None or found.high is None or unfit(found, categories):
        return False
    ends = (found.low, found.high, *found.by_seed)
    return all(end > 0 for end in ends) or all(end < 0 for end in ends)
