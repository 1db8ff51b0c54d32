"""One name, one judge: whose scores may be compared in one table.

A judge is a model with its parameters, asked in certain words. Galleries know it by the name in its file, and that file
is easily edited between two passes. So the verdicts themselves are checked for who gave them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fewstep.runtime.errors import JudgeError

_Line = Mapping[str, Any]  # of a verdicts file
_Seen = Iterable[tuple[Path, str, Iterable[_Line]]]  # gallery, judge, its lines there


def refuse_two_judges(seen: _Seen) -> None:
    """A fact that a verdict does not state (older versions, other programs) is not compared.

    Raises:
        JudgeError: two galleries hold, under one name, answers of two models or two sets of parameters, or to two
            wordings.
    """
    first: dict[tuple[str, str, str], tuple[Any, Path]] = {}
    for gallery, judge, lines in seen:
        stated = {fact for line in lines for fact in _facts(line)}
        for what, where, value in sorted(stated, key=repr):
            known, place = first.setdefault((judge, what, where), (value, gallery))
            if known != value:
                at = "" if place == gallery else f" in {gallery}"
                raise JudgeError(
                    f"judge {judge} is not one judge: {what} {known} in {place}, {value}{at}. Scores of two judges are "
                    "not compared: give one of them another `name` in its file, and judge its galleries again"
                )


def _facts(line: _Line) -> list[tuple[str, str, str]]:
    """The name of the fact, its rubric, and its value."""
    rubric = str(line.get("rubric") or "")
    task = str(line.get("task") or "")
    told = [("protocol", task, line.get("protocol")), ("wording", f"{task}/{rubric}", line.get("words"))]
    asked = line.get("asked")
    told.append(("model and parameters", "", asked) if asked else ("model", "", line.get("model")))
    return [(what, where, str(value)) for what, where, value in told if value is not None]


def renamed_models(seen: _Seen) -> dict[str, list[str]]:
    """Judges whose server named its model in different ways: one model was asked for, and two may have answered."""
    named: dict[str, dict[str, None]] = {}
    for _, judge, lines in seen:
        named.setdefault(judge, {}).update({str(m): None for line in lines if (m := line.get("model"))})
    return {judge: list(models) for judge, models in named.items() if len(models) > 1}
