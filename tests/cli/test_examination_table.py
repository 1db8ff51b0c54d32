"""The figures of an examination, as a terminal of 80 columns shows them."""

import io
from typing import Any

from rich.console import Console

from fewstep.cli.verbs.examination_table import examination_table
from fewstep.pocket.harder.figures import FIGURES
from fewstep.pocket.harder.systems import COLUMNS


def estimate(value: float | None, low: float | None = None, high: float | None = None, n: int = 48) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def line(key: str, label: str, group: str, compared: str, student: dict[str, Any], own: float = 0.8) -> dict[str, Any]:
    values = {"teacher": estimate(0.9), "student": estimate(own)}
    return {
        "key": key,
        "label": label,
        "group": group,
        "compared": compared,
        "unit": "dB" if key == "edit.rest" else "",
        "values": values,
        "against": {"student": student},
    }


def shown(figures: list[dict[str, Any]]) -> list[str]:
    spread = {
        "seeds": 8,
        "prompts": 12,
        "values": {"teacher": estimate(70.04), "student": estimate(80.1)},
        "against": {"student": estimate(1.14, 1.02, 1.3)},
        "answers": {"teacher": estimate(0.31), "student": estimate(0.3)},
    }
    found = {"systems": {"teacher": {}, "student": {}}, "figures": figures, "diversity": spread}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(examination_table(found, "one", {"teacher": "Teacher, 40 steps", "student": "Student, 4 steps"}))
    return [" ".join(row.split()) for row in console.export_text().splitlines()]


def test_a_star_says_that_the_whole_interval_is_on_one_side() -> None:
    rows = shown(
        [
            line("t2i.asked", "What was asked", "Text to image", "difference", estimate(-0.1, -0.2, -0.04)),
            line("t2i.drawn", "How well", "Text to image", "difference", estimate(-0.1, -0.2, 0.04)),
            line("edit.rest", "Rest", "Edits", "ratio", estimate(1.02, 0.98, 1.05), own=31.26),
            line("edit.words", "Words", "Edits", "difference", estimate(None)),
            line("edit.small", "Small", "Edits", "difference", estimate(-0.004, -0.006, -0.002)),
        ]
    )
    assert "What was asked 0.90 0.80 -0.10* 48" in rows
    assert "How well 0.90 0.80 -0.10 48" in rows
    assert "Rest, dB 0.90 31.3 x1.02 48" in rows
    assert "Words 0.90 0.80 48" in rows
    assert "Small 0.90 0.80 -0.004* 48" in rows
    assert rows.index("Text to image") < rows.index("Edits")
    assert "Distance between 8 seeds 70.0 80.1 x1.14* 12" in " ".join(rows)


def test_scores_that_say_what_their_shares_say_are_left_out() -> None:
    rows = shown([line("t2i.asked.score", "scored 1 to 5", "Text to image", "difference", estimate(0.4, 0.1, 0.5))])
    assert not any("scored" in row for row in rows)


def test_all_figures_of_four_systems_fit_eighty_columns() -> None:
    """Nothing is cut off: neither a label nor a value."""
    systems: dict[str, dict[str, Any]] = {name: {} for name in COLUMNS}
    sure = estimate(-0.123, -0.2, -0.1, 600)
    figures = [
        {
            **{name: getattr(figure, name) for name in ("key", "label", "group", "compared", "unit")},
            "values": dict.fromkeys(systems, estimate(0.456, n=600)),
            "against": dict.fromkeys(systems, sure),
        }
        for figure in FIGURES
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(examination_table({"systems": systems, "figures": figures, "diversity": None}, "all", COLUMNS))
    text = console.export_text()
    shown = [figure for figure in FIGURES if not figure.key.endswith(".score")]
    assert text.count("0.46 -0.12*") == 3 * len(shown)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
