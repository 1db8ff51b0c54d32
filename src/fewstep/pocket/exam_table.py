"""Figures of an examination: means with intervals, and every system against the first one, pair by pair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewstep.bench import statistics
from fewstep.bench.statistics import Floats
from fewstep.pocket.exam_gallery import Questions

ProbeRecord = dict[str, Any]


@dataclass(frozen=True)
class ExamFigure:
    """One line of the table: a mean over the records it applies to. of: a record's value, None if it does not apply.
    compared: by a ratio, or by a difference if a ratio has no meaning (dB). by_picture: whether it applies depends on
    the picture, not on its case alone; then only cases count that have a value from every system."""

    key: str
    group: str
    label: str
    of: Callable[[ProbeRecord], float | bool | None]
    better: str = "higher"
    unit: str = ""
    compared: str = "ratio"
    by_picture: bool = False


def figure_lines(figures: Sequence[ExamFigure], records: Mapping[str, Sequence[ProbeRecord]]) -> dict[str, Any]:
    """{"reference", "figures": [{key, group, label, better, unit, compared, values, against}]}. values: system ->
    Estimate. against: every other system -> its ratio to (or difference from) the reference, with records paired and
    whole cases resampled."""
    reference, *others = records
    lines = [_line(figure, records, reference, others) for figure in figures]
    return {"reference": reference, "figures": [line for line in lines if line["values"][reference]["n"]]}


def _line(
    figure: ExamFigure, records: Mapping[str, Sequence[ProbeRecord]], reference: str, others: Sequence[str]
) -> dict[str, Any]:
    asked = records if figure.by_picture else [reference]
    applies = [
        i for i in range(len(records[reference])) if all(figure.of(records[name][i]) is not None for name in asked)
    ]
    cases = [records[reference][i]["case"] for i in applies]
    values = {name: _values(figure, sat, applies) for name, sat in records.items()}
    compare = statistics.paired_ratio if figure.compared == "ratio" else statistics.paired_difference
    ends = None if figure.unit else statistics.SHARE
    return {
        **{name: getattr(figure, name) for name in ("key", "group", "label", "better", "unit", "compared")},
        "values": {name: statistics.mean(x, cases, bounds=ends).as_dict() for name, x in values.items()},
        "against": {name: compare(values[name], values[reference], cases).as_dict() for name in others},
    }


def _values(figure: ExamFigure, records: Sequence[ProbeRecord], applies: Sequence[int]) -> Floats:
    found = [figure.of(records[i]) for i in applies]
    assert None not in found, f"{figure.key} applies to a case or it does not, whoever draws it"
    return np.array(found, dtype=np.float64)


def variety_figures(
    questions: Questions,
    seeds: int,
    features: Mapping[str, Floats],
    nearest: Mapping[str, Sequence[int | None]],
    answers: Callable[[Any], int],
) -> dict[str, Any] | None:
    """The mean distance of the pictures of one prompt over its seeds, in the probe's features; None if no prompt has
    several. A system that errs at random has a large distance too, so read it beside the attributes. answers: the share
    of a prompt's exact answers that are the nearest to the picture of some seed.

    Args:
        features, nearest: of each system's pictures of all questions, the latter as the number of an exact answer.
        answers: how many exact answers a case has; 0 if they cannot be listed.
    """
    rows: dict[str, list[int]] = {}
    for i, (case, _) in enumerate(questions):
        if case.task == "t2i":
            rows.setdefault(case.id, []).append(i)
    several = [members for members in rows.values() if len(members) > 1]
    if not several:
        return None
    reference, *others = features
    values = {name: [statistics.spread(x[members]) for members in several] for name, x in features.items()}
    listed = [(members, count) for members in several if (count := answers(questions[members[0]][0]))]
    shares = {name: [len({met[i] for i in m}) / count for m, count in listed] for name, met in nearest.items()}
    return {
        "answers": {name: statistics.mean(x, bounds=statistics.SHARE).as_dict() for name, x in shares.items()},
        "prompts": len(several),
        "seeds": seeds,
        "values": {name: statistics.mean(x).as_dict() for name, x in values.items()},
        "against": {name: statistics.paired_ratio(values[name], values[reference]).as_dict() for name in others},
    }
