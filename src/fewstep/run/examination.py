"""The results of an examination as parts of a page: cards, a table, rows of pictures.

It reads files only: figures.json, the galleries and the sources that `pocket/exam.py` writes into one folder.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench.gallery import Gallery
from fewstep.pages.page import (
    PageTable,
    Sheet,
    SheetPicture,
    StatCard,
    Strip,
    TableCell,
    TableRow,
)
from fewstep.pocket.exam_gallery import kept_figures
from fewstep.runtime.errors import RunError

TITLES = {
    "landscape": "Landscapes",
    "portrait": "Portraits",
    "text": "Signs with letters",
    "still-life": "Still lives",
}
KINDS = {
    "scene": "Edits of the scene",
    "perceptual": "Repairs: blur, noise, darkness",
    "object": "Edits of an object",
    "text": "Edits of the letters",
    "identity": "Edits of a person",
    "style": "Edits of the style",
    "two-pictures": "Edits that take something from a second picture",
    "three-pictures": "Edits that take something from two more pictures",
}
SHARES = {  # of these, the ones that an examination has become cards
    "t2i.letters": "words spelt exactly",
    "t2i.words": "short words spelt exactly",
    "t2i.drawn": "how well it is drawn",
    "edit.changed": "of the asked-for changes made",
}
FEWEST = 20  # ours: cases that a card needs
ROWS = 4  # of each category and kind


@dataclass(frozen=True)
class AttributesRight:
    """How many attributes a student gets right in text to image. own: its share, with an interval; reference: that of
    the system it is compared with; ratio: of the two, pair by pair, where the examination compares by ratios."""

    own: Mapping[str, Any]
    reference: float
    ratio: Mapping[str, Any] | None

    @property
    def shown(self) -> Mapping[str, Any]:
        """The estimate to name: the ratio if there is one."""
        return self.own if self.ratio is None else self.ratio

    def words(self, reference: str) -> str:
        """What the shown share is of. reference: what the other system is called."""
        if self.ratio is not None:
            return f"as many attributes right as {reference}"
        return f"of the attributes right ({reference} {_percent(self.reference)})"


@dataclass(frozen=True)
class ExaminationResult:
    """An examination on disk. columns: system -> heading, with the reference first and the student last."""

    found: Mapping[str, Any]
    folder: Path
    columns: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, columns: Mapping[str, str]) -> "ExaminationResult | None":
        """The examination in `folder`; None if there is no finished one with these systems.

        Raises:
            RunError: its figures are torn.
        """
        found = kept_figures(folder)
        return cls(found, folder, columns) if found and set(columns) <= set(found.get("systems", ())) else None

    @property
    def reference(self) -> str:
        return next(iter(self.columns))

    @property
    def student(self) -> str:
        return list(self.columns)[-1]

    @property
    def attributes(self) -> AttributesRight:
        line = self.line("t2i.attributes")
        values = line["values"]
        ratio = line["against"][self.student] if line["compared"] == "ratio" else None
        return AttributesRight(values[self.student], values[self.reference]["value"], ratio)

    @property
    def calls(self) -> tuple[int, int]:
        """Network calls for a text-to-image picture, of the reference and of the student."""
        told = [self.found["systems"][name]["network_calls"]["t2i"] for name in (self.reference, self.student)]
        return int(told[0]), int(told[1])

    def line(self, key: str) -> Mapping[str, Any]:
        """One figure, such as "t2i.attributes": the mean of each system with its interval, and `against`, the student
        against each other system pair by pair.

        Raises:
            RunError: the examination has no such figure.
        """
        lines: Mapping[str, Mapping[str, Any]] = {line["key"]: line for line in self.found["figures"]}
        if key not in lines:
            raise RunError(f"{self.folder} has no figure {key}; it has {', '.join(lines)}")
        return lines[key]


def cards(examination: ExaminationResult, minutes: float, iterations: int) -> tuple[StatCard, ...]:
    student, reference = examination.student, examination.reference
    calls, right, frechet = examination.calls, examination.attributes, examination.found.get("frechet")
    found = [
        StatCard(
            f"{100 * right.shown['value']:.0f} %",
            right.words("the teacher"),
            f"text to image; {_between(right.shown)}",
        ),
        StatCard(str(calls[1]), "network calls a picture", f"the teacher's full sampler: {calls[0]}, guidance counted"),
    ]
    for key, label in SHARES.items():
        if any(line["key"] == key for line in examination.found["figures"]):
            values = examination.line(key)["values"]
            if values[student]["n"] < FEWEST:  # too few to stand alone; the table has them with their interval
                continue
            found.append(
                StatCard(_percent(values[student]["value"]), label, f"teacher {_percent(values[reference]['value'])}")
            )
    if frechet:
        found.append(
            StatCard(
                f"{frechet['values'][student]:.1f}",
                "Fréchet distance",
                f"teacher {frechet['values'][reference]:.1f}; floor {frechet['floor']:.1f}, n = {frechet['n']}",
            )
        )
    found.append(StatCard(f"{minutes:.1f} min", "training", f"{iterations:,} iterations"))
    return tuple(found)


def table(examination: ExaminationResult) -> PageTable:
    rows = [_row(line, examination) for line in examination.found["figures"]]
    rows += [*_frechet_row(examination), *_diversity_row(examination)]
    versus = f"{examination.student} against {examination.reference}".capitalize()
    note = (
        "Means over held-out cases with 95 % bootstrap intervals that resample whole cases. The last column compares "
        "pair by pair, same case and same seed: a ratio, whose dotted line is equality, or a difference. Every system "
        "answered the same questions."
    )
    return PageTable("Figures", (*examination.columns.values(), versus), tuple(rows), note)


def _row(line: Mapping[str, Any], examination: ExaminationResult) -> TableRow:
    share = not line["unit"]
    values = [line["values"][name] for name in examination.columns]
    against = line["against"].get(examination.student)
    note = f"{line['unit']}, {line['better']} is better" if line["unit"] else ""
    size = f"n = {values[0]['n']}"
    return TableRow(
        line["label"],
        (*(_cell(value, share) for value in values), _versus(against, line["compared"], line["unit"])),
        ", ".join(part for part in (note, size) if part),
        line["group"],
    )


def _cell(value: Mapping[str, Any], share: bool) -> TableCell:
    def written(x: float) -> str:
        return f"{100 * x:.1f} %" if share else f"{x:.2f}"

    under = "" if value["low"] is None else f"{written(value['low'])} to {written(value['high'])}"
    return TableCell(written(value["value"]), under)


def _versus(against: Mapping[str, Any] | None, compared: str, unit: str) -> TableCell:
    if against is None or against["value"] is None:
        return TableCell("not defined", "the reference is at 0" if against else "")
    value, low, high = against["value"], against["low"], against["high"]
    if compared == "difference" and not unit:  # of shares, which the row shows in per cent
        under = "" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
        return TableCell(f"{100 * value:+.1f} points", under)
    if compared == "difference":
        return TableCell(f"{value:+.2f} {unit}", "" if low is None else f"{low:+.2f} to {high:+.2f}")
    return TableCell(f"{value:.3f}", "" if low is None else f"{low:.3f} to {high:.3f}", (value, low, high))


def _frechet_row(examination: ExaminationResult) -> list[TableRow]:
    frechet = examination.found.get("frechet")
    if frechet is None:
        return []
    cells = [TableCell(f"{frechet['values'][name]:.1f}") for name in examination.columns]
    note = f"lower is better; n = {frechet['n']}, floor {frechet['floor']:.1f}"
    return [TableRow("Fréchet distance", (*cells, TableCell("")), note, "As a set")]


def _diversity_row(examination: ExaminationResult) -> list[TableRow]:
    diversity = examination.found["diversity"]
    if diversity is None:
        return []
    cells = [_cell(diversity["values"][name], share=False) for name in examination.columns]
    note = f"{diversity['prompts']} prompts, {diversity['seeds']} seeds each; errors at random count as diverse"
    against = diversity["against"].get(examination.student)
    shares = [_cell(diversity["answers"][name], share=True) for name in examination.columns]
    return [
        TableRow("Distance between seeds", (*cells, _versus(against, "ratio", "")), note, "As a set"),
        TableRow(
            "Exact answers met by some seed", (*shares, TableCell("")), "light and pose are the seed's", "As a set"
        ),
    ]


def sheets(examination: ExaminationResult) -> tuple[Sheet, ...]:
    galleries = {name: Gallery(examination.folder / name) for name in examination.columns}
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
        Sheet(title, tuple(_strip(record, galleries, examination) for record in seen[task, category][:ROWS]))
        for task, category, title in titles
        if (task, category) in seen
    )


def _strip(record: Mapping[str, Any], galleries: Mapping[str, Gallery], examination: ExaminationResult) -> Strip:
    case, seed = record["case"], record["seed"]
    sources = Gallery(examination.folder / "sources")
    several = itertools.takewhile(lambda number: (case, number) in sources, itertools.count())
    given = [
        SheetPicture(f"Picture {number + 1}" if number else "Source", sources.path(case, number)) for number in several
    ]
    drawn = [  # an examination that ended early, of more cases, may have left a picture of one system alone
        SheetPicture(heading, galleries[name].path(case, seed), mark=name == examination.student)
        for name, heading in examination.columns.items()
        if (case, seed) in galleries[name]
    ]
    return Strip(record["prompt"], (*given, *drawn))


def system_description(facts: Mapping[str, Any]) -> str:
    """Of a system whose levels depend on the size, those of the first size."""
    told = facts.get("sigmas", [])
    by_size = isinstance(told, Mapping)
    sigmas = next(iter(told.values())) if by_size else told
    if not sigmas:
        return ""
    levels = f"{len(sigmas)} steps from {sigmas[0]:g} to {sigmas[-1]:g}" + (", by size" if by_size else "")
    calls = ", ".join(f"{task} {count}" for task, count in facts.get("network_calls", {}).items())
    guidance = ", ".join(f"{task} {values[0]:g}" for task, values in facts.get("guidance", {}).items())
    return f"{levels}; network calls: {calls}; guidance: {guidance}"


def _between(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return "no interval"
    return f"95 % interval {100 * estimate['low']:.1f} to {100 * estimate['high']:.1f} %"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
