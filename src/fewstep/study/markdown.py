"""A study's results as Markdown: readable as plain text, and rendered by code hosts."""

from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.study import phrasing
from fewstep.study.plan import FigurePlan


def study_markdown(found: Mapping[str, Any], figures: Sequence[FigurePlan]) -> str:
    """The whole page. figures: those that were drawn, each NAME.png beside the page."""
    parts = [f"# {phrasing.heading(found)}", *_setting(found), *_takeaways(found), *_premises(found)]
    parts += [part for table in found["tables"] for part in _table(table)]
    parts += [phrasing.about_scores(found)]
    parts += [part for curve in found["moments"] for part in _moments(curve)]
    parts += [part for measured in found["measures"] for part in _measures(measured)]
    parts += [part for told in found["differences"] for part in _differences(told)]
    parts += [f"## {_escaped(figure.title)}\n\n![{_escaped(figure.title)}]({figure.name}.png)" for figure in figures]
    parts += ["## What the cells differ in", _rows(["cell", "sets"], _axis(found))]
    return "\n\n".join(parts) + "\n"


def _setting(found: Mapping[str, Any]) -> list[str]:
    facts = "\n".join(f"- **{_escaped(name)}**: {_escaped(value)}" for name, value in phrasing.setting(found))
    return [facts, *(f"> {_escaped(warning)}" for warning in phrasing.warnings(found))]


def _premises(found: Mapping[str, Any]) -> list[str]:
    if not found["premises"]:
        return []
    lines = [
        f"- {_escaped(each['says'])}: **{each['state']}** ({_escaped(phrasing.premise_words(each))})"
        for each in found["premises"]
    ]
    meant = "that" if found["takeaways"] else "a conclusion"
    return [f"## What must be so for {meant}, declared before the first run", "\n".join(lines)]


def _takeaways(found: Mapping[str, Any]) -> list[str]:
    if not found["takeaways"]:
        return []
    parts = ["## What the paper concludes, and what was found here"]
    for takeaway in found["takeaways"]:
        lines = [f"{takeaway['number']}. {_escaped(takeaway['says'])} **{takeaway['verdict'].capitalize()}.**"]
        lines += [
            f"   - {_escaped(claim['says'])}: {claim['verdict']} ({_escaped(phrasing.claim_words(claim))})"
            for claim in takeaway["claims"]
        ]
        parts.append("\n".join(lines))
    return parts


def _table(table: Mapping[str, Any]) -> list[str]:
    rows = [_line(line) for line in phrasing.table_lines(table)]
    return [f"## {_escaped(phrasing.table_title(table))}", _rows(["", *phrasing.table_columns(table)], rows)]


def _line(line: phrasing.TextRow) -> list[str]:
    told = [_escaped(text) if not under else f"{_escaped(text)}<br><sub>{under}</sub>" for text, under in line.cells]
    mark = "*" if line.printed else ""
    return [f"{mark}{_escaped(line.name)}{mark}", *told]


def _differences(told: Mapping[str, Any]) -> list[str]:
    rows = [_line(line) for line in phrasing.difference_lines(told)]
    title = f"## {_escaped(phrasing.difference_title(told))}"
    return [title, _rows(["", *phrasing.difference_columns(told)], rows), phrasing.ABOUT_DIFFERENCES]


def _moments(curve: Mapping[str, Any]) -> list[str]:
    iterations = [point["iteration"] for point in next(iter(curve["cells"].values()))]
    rows = [[cell, *(phrasing.cell(point["score"])[0] for point in points)] for cell, points in curve["cells"].items()]
    title = f"## While they learn: mean score of {phrasing.task_words(curve['task'])} after so many iterations"
    return [title, _rows(["", *map(str, iterations)], rows)]


def _measures(measured: Mapping[str, Any]) -> list[str]:
    names = phrasing.measure_columns(measured)
    if not names:
        return []
    rows = [
        [_escaped(label), *(_measure(told.get(name)) for name in names)] for label, told in measured["rows"].items()
    ]
    title = f"## Beside the score, {phrasing.task_words(measured['task'])}"
    return [title, _rows(["", *(phrasing.MEASURE_NAMES[name] for name in names)], rows)]


def _measure(told: Mapping[str, Any] | None) -> str:
    text, under = phrasing.cell(told)
    return f"{text}<br><sub>{under}</sub>" if under else text


def _axis(found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [_escaped(cell), _escaped(", ".join(f"{key} {value}" for key, value in sets.items()))]
        for cell, sets in found["axis"].items()
    ]


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def _escaped(text: str) -> str:
    """Plain text in Markdown: the text of a study file is not read as markup."""
    for mark in "\\`*[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
