"""What an examination says, as the parts of a page: cards, a table, rows of pictures.

Reads files only: figures.json, the galleries and the sources that pocket/exam.py leaves in one folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench.gallery import Gallery
from fewstep.report.page import Card, Cell, Picture, Row, Sheet, Strip, Table

TITLES = {"landscape": "Landscapes", "portrait": "Portraits", "text": "Signs with letters"}
KINDS = {
    "scene": "Edits of the scene",
    "perceptual": "Repairs: blur, noise, darkness",
    "object": "Edits of an object",
    "text": "Edits of the letters",
    "identity": "Edits of a person",
    "style": "Edits of the style",
}
ROWS = 4  # of each category and kind


@dataclass(frozen=True)
class Examined:
    """An examination on disk. columns: system -> heading; the reference first, the student last."""

    found: Mapping[str, Any]
    folder: Path
    columns: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, columns: Mapping[str, str]) -> "Examined | None":
        """The examination in `folder`; None where there is none that was finished with these systems."""
        file = folder / "figures.json"
        found = json.loads(file.read_text()) if file.is_file() else {"systems": {}}
        return cls(found, folder, columns) if set(columns) <= set(found["systems"]) else None

    @property
    def reference(self) -> str:
        return next(iter(self.columns))

    @property
    def student(self) -> str:
        return list(self.columns)[-1]

    @property
    def attributes_ratio(self) -> Mapping[str, Any]:
        """The student's share of the reference's attributes, text to image."""
        ratio: Mapping[str, Any] = self.line("t2i.attributes")["against"][self.student]
        return ratio

    @property
    def calls(self) -> tuple[int, int]:
        """Network calls of a T2I picture: the reference's and the student's."""
        told = [self.found["systems"][name]["network_calls"]["t2i"] for name in (self.reference, self.student)]
        return int(told[0]), int(told[1])

    def line(self, key: str) -> Mapping[str, Any]:
        line: Mapping[str, Any] = next(line for line in self.found["figures"] if line["key"] == key)
        return line


def cards(examined: Examined, minutes: float, iterations: int) -> tuple[Card, ...]:
    student, reference = examined.student, examined.reference
    ratio, calls, frechet = examined.attributes_ratio, examined.calls, examined.found["frechet"]
    found = [
        Card(
            f"{100 * ratio['value']:.0f} %",
            "as many attributes right as the teacher",
            f"text to image; {_between(ratio)}",
        ),
        Card(str(calls[1]), "network calls a picture", f"the teacher's full sampler: {calls[0]}, guidance counted"),
    ]
    for key, label in (("t2i.letters", "words spelt exactly"), ("edit.changed", "of the asked-for changes made")):
        if any(line["key"] == key for line in examined.found["figures"]):
            values = examined.line(key)["values"]
            found.append(
                Card(_percent(values[student]["value"]), label, f"teacher {_percent(values[reference]['value'])}")
            )
    found.append(
        Card(
            f"{frechet['values'][student]:.1f}",
            "Fréchet distance",
            f"teacher {frechet['values'][reference]:.1f}; floor {frechet['floor']:.1f}, n = {frechet['n']}",
        )
    )
    found.append(Card(f"{minutes:.1f} min", "training", f"{iterations:,} iterations"))
    return tuple(found)


def table(examined: Examined) -> Table:
    rows = [_row(line, examined) for line in examined.found["figures"]]
    rows += [*_frechet_row(examined), *_diversity_row(examined)]
    versus = f"{examined.student} / {examined.reference}".capitalize()
    note = (
        "Means over held-out cases with 95 % bootstrap intervals that resample whole cases. The last column compares "
        "pair by pair, same case and same seed; the dotted line is equality. Every system answered the same questions."
    )
    return Table("Figures", (*examined.columns.values(), versus), tuple(rows), note)


def _row(line: Mapping[str, Any], examined: Examined) -> Row:
    share = not line["unit"]
    values = [line["values"][name] for name in examined.columns]
    against = line["against"].get(examined.student)
    note = f"{line['unit']}, {line['better']} is better" if line["unit"] else ""
    size = f"n = {values[0]['n']}"
    return Row(
        line["label"],
        (*(_cell(value, share) for value in values), _versus(against, line["compared"], line["unit"])),
        ", ".join(part for part in (note, size) if part),
        line["group"],
    )


def _cell(value: Mapping[str, Any], share: bool) -> Cell:
    def written(x: float) -> str:
        return f"{100 * x:.1f} %" if share else f"{x:.2f}"

    under = "" if value["low"] is None else f"{written(value['low'])} to {written(value['high'])}"
    return Cell(written(value["value"]), under)


def _versus(against: Mapping[str, Any] | None, compared: str, unit: str) -> Cell:
    if against is None or against["value"] is None:
        return Cell("not defined", "the reference is at 0" if against else "")
    value, low, high = against["value"], against["low"], against["high"]
    if compared == "difference":
        return Cell(f"{value:+.2f} {unit}", "" if low is None else f"{low:+.2f} to {high:+.2f}")
    return Cell(f"{value:.3f}", "" if low is None else f"{low:.3f} to {high:.3f}", (value, low, high))


def _frechet_row(examined: Examined) -> list[Row]:
    frechet = examined.found["frechet"]
    cells = [Cell(f"{frechet['values'][name]:.1f}") for name in examined.columns]
    note = f"lower is better; n = {frechet['n']}, floor {frechet['floor']:.1f}"
    return [Row("Fréchet distance", (*cells, Cell("")), note, "As a set")]


def _diversity_row(examined: Examined) -> list[Row]:
    diversity = examined.found["diversity"]
    if diversity is None:
        return []
    cells = [_cell(diversity["values"][name], share=False) for name in examined.columns]
    note = f"{diversity['prompts']} prompts, {diversity['seeds']} seeds each; errors at random count as diverse"
    against = diversity["against"].get(examined.student)
    shares = [_cell(diversity["answers"][name], share=True) for name in examined.columns]
    return [
        Row("Distance between seeds", (*cells, _versus(against, "ratio", "")), note, "As a set"),
        Row("Exact answers met by some seed", (*shares, Cell("")), "light and pose are the seed's", "As a set"),
    ]


def sheets(examined: Examined) -> tuple[Sheet, ...]:
    galleries = {name: Gallery(examined.folder / name) for name in examined.columns}
    first = galleries[next(iter(galleries))]
    seen: dict[tuple[str, str], list[dict[str, Any]]] = {}
    cases: set[str] = set()
    for record in first:
        if record["case"] not in cases:
            cases.add(record["case"])
            seen.setdefault((record["task"], record["category"]), []).append(record)
    titles = [("t2i", category, title) for category, title in TITLES.items()]
    titles += [("edit", kind, title) for kind, title in KINDS.items()]
    return tuple(
        Sheet(title, tuple(_strip(record, galleries, examined) for record in seen[task, category][:ROWS]))
        for task, category, title in titles
        if (task, category) in seen
    )


def _strip(record: Mapping[str, Any], galleries: Mapping[str, Gallery], examined: Examined) -> Strip:
    case, seed = record["case"], record["seed"]
    sources = Gallery(examined.folder / "sources")
    given = [Picture("Source", sources.path(case, 0))] if (case, 0) in sources else []
    drawn = [
        Picture(heading, galleries[name].path(case, seed), mark=name == examined.student)
        for name, heading in examined.columns.items()
    ]
    return Strip(record["prompt"], (*given, *drawn))


def system_words(facts: Mapping[str, Any]) -> str:
    sigmas = facts.get("sigmas", [])
    calls = ", ".join(f"{task} {count}" for task, count in facts.get("network_calls", {}).items())
    guidance = ", ".join(f"{task} {values[0]:g}" for task, values in facts.get("guidance", {}).items())
    return (
        f"{len(sigmas)} steps from {sigmas[0]:g} to {sigmas[-1]:g}; network calls: {calls}; guidance: {guidance}"
        if sigmas
        else ""
    )


def _between(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return "no interval"
    return f"95 % interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f} %"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
