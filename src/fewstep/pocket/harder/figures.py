"""The figures of the harder world's examination, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fewstep.pocket.exam_table import ExamFigure, ProbeRecord
from fewstep.pocket.harder.attributes import CATEGORY_NAMES
from fewstep.pocket.harder.cases import EDIT_KINDS, LENGTHS
from fewstep.pocket.score import score_of

T2I, EDIT = "Text to image", "Edits"
GROUPS = {"t2i": T2I, "edit": EDIT}
SHARES: dict[str, tuple[str, ...]] = {"t2i": ("nearness", "calm", "unity", "grid", "edges")}
SHARES["edit"] = tuple(name for name in SHARES["t2i"] if name != "unity")  # an edit has one exact answer, and no blend
WORDS = {"words": range(1, 4), "long words": range(4, 7)}  # letters
HALVES = {"asked": "What was asked", "drawn": "How well it is drawn"}

Value = Callable[[ProbeRecord], Any]


def of(task: str, name: str, **fits: str) -> Value:
    """A record's value where it is of this task, and where these fields have these values."""

    def value(record: ProbeRecord) -> Any:
        return record[name] if applies(record, task, fits) else None

    return value


def of_share(task: str, table: str, name: str, **fits: str) -> Value:
    """The same, of one of the record's tables of shares."""

    def value(record: ProbeRecord) -> Any:
        return record[table].get(name) if applies(record, task, fits) else None

    return value


def applies(record: ProbeRecord, task: str, fits: Mapping[str, str]) -> bool:
    return record["task"] == task and all(record[field] == wanted for field, wanted in fits.items())


def scored(value: Value) -> Value:
    """A share on the judges' scale of 1 to 5."""

    def score(record: ProbeRecord) -> Any:
        share = value(record)
        return None if share is None else score_of(share)

    return score


def of_word(task: str, lengths: range) -> Value:
    """Whether a whole word of so many letters is right; of edits, a word that the edit asks for."""

    def value(record: ProbeRecord) -> Any:
        fits = record["task"] == task and record["letters"] in lengths and record["category"] == "text"
        return record["word"] if fits else None

    return value


def line(
    key: str, label: str, value: Value, unit: str = "", better: str = "higher", by_picture: bool = False
) -> ExamFigure:
    """A figure of the task that its key begins with. Systems are compared by differences, which a share of 0 allows."""
    return ExamFigure(key, GROUPS[key.split(".")[0]], label, value, better, unit, "difference", by_picture)


def halves(task: str) -> list[ExamFigure]:
    return [
        each
        for name, label in HALVES.items()
        for each in (
            line(f"{task}.{name}", label, of(task, name)),
            line(f"{task}.{name}.score", f"{label}, scored 1 to 5", scored(of(task, name)), unit="of 5"),
        )
    ]


def word_lines(task: str) -> list[ExamFigure]:
    return [
        line(
            f"{task}.{key.replace(' ', '-')}",
            f"Whole words right, {lengths[0]} to {lengths[-1]} letters",
            of_word(task, lengths),
        )
        for key, lengths in WORDS.items()
    ]


def drawing(task: str) -> list[ExamFigure]:
    """The shares of how well it is drawn. Whether one applies may depend on which exact answer is the nearest."""
    return [
        line(f"{task}.{name}", f"Drawn: {name}", of_share(task, "shares", name), by_picture=True)
        for name in SHARES[task]
    ]


FIGURES = (
    *halves("t2i"),
    line("t2i.attributes", "Named attributes right", of("t2i", "attributes")),
    *word_lines("t2i"),
    *(
        line(f"t2i.{half}.{category}", f"{label}, {name}", of("t2i", half, category=category))
        for half, label in HALVES.items()
        for category, name in CATEGORY_NAMES.items()
    ),
    *(
        line(f"t2i.asked.{length}", f"What was asked, {length} prompts", of("t2i", "asked", length=length))
        for length in sorted(LENGTHS)
    ),
    *drawing("t2i"),
    line("t2i.exact", "Nearest exact answer", of("t2i", "exact_db"), "dB"),
    *halves("edit"),
    line("edit.changed", "Changes made", of_share("edit", "sides", "changed")),
    *(
        line(f"edit.changed.{kind}", f"Changes made, {kind}", of_share("edit", "sides", "changed", category=kind))
        for kind in EDIT_KINDS
        if kind != "perceptual"
    ),
    line("edit.kept", "Attributes that stayed", of_share("edit", "sides", "kept")),
    *word_lines("edit"),
    line("edit.closed", "Distance closed, repairs and styles", of_share("edit", "sides", "closed")),
    *(
        line(f"edit.drawn.{kind}", f"How well it is drawn, {kind}", of("edit", "drawn", category=kind))
        for kind in EDIT_KINDS
    ),
    *drawing("edit"),
    line("edit.exact", "The exact answer", of("edit", "exact_db"), "dB"),
    line("edit.preserved", "Rest left alone", of("edit", "preserved_db"), "dB"),
    line("edit.shift", "Rest shifted", of("edit", "shift_px"), "px", better="lower", by_picture=True),
)
