"""Every row of a study less one row that its file names as the reference, pair by pair."""

from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.study.intervals import Interval
from fewstep.study.scores import MEASURES, ExaminedRuns, ScoreRow, common_judges, contrast


def differences(
    examined: ExaminedRuns, measured: ExaminedRuns, task: str, categories: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """As JSON: a row's name, its differences by category and on average, and those of its measurements. A pair is the
    same run seed and the same case.

    Args:
        examined: the rows' scores; measured: their measurements.
        names: the rows to compare with the reference. One that has not been examined, or shares no run with it, has
            no differences.
    """
    reference = examined.manifest.plan.reference
    assert reference is not None, "the study names one"
    base, base_measured = examined.row(reference), measured.row(reference)
    return [
        {
            "name": name,
            "scores": _scores(examined.row(name), base, task, categories),
            "measures": _measures(measured.row(name), base_measured, task),
        }
        for name in names
        if name != reference
    ]


def _scores(
    row: ScoreRow | None, base: ScoreRow | None, task: str, categories: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    wanted = {**{c: [c] for c in categories}, "average": list(categories)}
    if row is None or base is None:
        return dict.fromkeys(wanted)
    judges = common_judges([row, base])
    return {column: _json(contrast([row], [base], judges, task, members)) for column, members in wanted.items()}


def _measures(row: ScoreRow | None, base: ScoreRow | None, task: str) -> dict[str, dict[str, Any]]:
    if row is None or base is None:
        return {}
    told = {m: _json(contrast([row], [base], [m], task, _measured_categories(base, m, task))) for m in MEASURES}
    return {measure: found for measure, found in told.items() if found is not None}


def _measured_categories(row: ScoreRow, measure: str, task: str) -> list[str]:
    """The categories that this measurement applies to."""
    some: Mapping[str, Mapping[tuple[str, str], Any]] = next(iter(row.answers.values()))
    return sorted(category for t, category in some.get(measure, {}) if t == task)


def _json(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else found.as_dict() | {"sure": is_sure(found)}


def is_sure(found: Interval) -> bool:
    """Whether the whole interval, and every run by itself, is on one side of 0."""
    if found.low is None or found.high is None:
        return False
    ends = (found.low, found.high, *found.by_seed)
    return all(end > 0 for end in ends) or all(end < 0 for end in ends)
