"""The figures of an examination in a terminal of 80 columns: values, and how they differ from the first system's."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

Figure = Mapping[str, Any]
CELL = 12  # characters: a value and its difference


def examination_table(found: Mapping[str, Any], title: str, columns: Mapping[str, str]) -> Table:
    """A row for each figure. Scores of 1 to 5 say what their shares say, and are left to figures.json.

    Args:
        found: what an examination returns; the first of its systems is the reference.
        columns: system -> heading.
    """
    first, *others = found["systems"]
    table = Table(
        "",
        *(columns.get(name, name) for name in (first, *others)),
        "n",
        title=title,
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in table.columns[1:]:
        column.justify, column.max_width = "right", CELL
    shares = [line for line in found["figures"] if not line["key"].endswith(".score")]
    for group, lines in groupby(shares, key=lambda line: line["group"]):
        table.add_section()
        table.add_row(f"[bold]{group}[/]")
        for line in lines:
            cells = [_value(line["values"][first])]
            cells += [_beside(line["values"][name], line["against"][name], line["compared"]) for name in others]
            label = f"{line['label']}, {line['unit']}" if line["unit"] else line["label"]
            table.add_row(label, *cells, str(line["values"][first]["n"]))
    table.add_section()
    for label, cells, count in _whole_figures(found, first, others):
        table.add_row(label, *cells, count)
    return table


def _whole_figures(found: Mapping[str, Any], first: str, others: list[str]) -> list[tuple[str, list[str], str]]:
    """Figures of all pictures of a system together."""
    rows = []
    if distance := found.get("frechet"):
        cells = [f"{distance['values'][name]:.1f}" for name in (first, *others)]
        rows.append((f"Fréchet distance (floor {distance['floor']:.1f})", cells, str(distance["n"])))
    if spread := found["diversity"]:
        cells = [_value(spread["values"][first])]
        cells += [_beside(spread["values"][name], spread["against"][name], "ratio") for name in others]
        rows.append((f"Distance between {spread['seeds']} seeds", cells, str(spread["prompts"])))
        met = [_value(spread["answers"][name]) for name in (first, *others)]
        rows.append(("Exact answers that some seed meets", met, str(spread["prompts"])))
    return rows


def _value(value: Figure) -> str:
    return _number(value["value"])


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _beside(value: Figure, against: Figure, compared: str) -> str:
    """The value, and its difference from the reference or its ratio to it."""
    difference = against["value"]
    if difference is None:
        return _value(value)
    none = 1.0 if compared == "ratio" else 0.0
    sign = "x" if compared == "ratio" else "+" if difference >= 0 else ""
    sure = against["low"] is not None and not against["low"] <= none <= against["high"]
    digits = 2 if abs(difference - none) >= 0.005 or difference == none else 3  # else a sure one would read -0.00*
    return f"{_value(value)} {sign}{difference:.{digits}f}{'*' if sure else ' '}"
