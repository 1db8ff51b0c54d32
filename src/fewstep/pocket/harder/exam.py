"""The harder world's examination: systems answer the same held-out cases with the same seeds, and the reader reads the
answers.

The first system named is the reference; the others are compared with it pair by pair. The folder then holds sources/
(all pictures that edits begin with), figures.json, and for each system pictures/, manifest.jsonl and
records.jsonl. Pictures that are there are not drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.gallery import Gallery
from fewstep.bench.statistics import Floats
from fewstep.pocket.exam_gallery import ExaminedSystem, draw_missing, keep_sources, open_exam_gallery
from fewstep.pocket.exam_table import ProbeRecord, figure_lines, variety_figures
from fewstep.pocket.harder import probe
from fewstep.pocket.harder.attributes import CATEGORIES
from fewstep.pocket.harder.cases import EDIT_KINDS, HarderCase, instruction_case, prompt_case
from fewstep.pocket.harder.figures import FIGURES
from fewstep.pocket.harder.records import nearest_of, picture_record
from fewstep.pocket.harder.vocabulary import tokenizer
from fewstep.runtime import durable

WORLD = "held out, of the harder world"
BATCH = 32  # pictures drawn at once
Question = tuple[HarderCase, int]


@dataclass(frozen=True)
class HarderExamSpec:
    """The questions of an examination. cases: held-out prompts of each category, and edits of each kind; diversity:
    prompts of each category that are drawn with `seeds` seeds. Cases are pure functions of `seed`."""

    cases: int = 60
    diversity: int = 8
    seeds: int = 8
    seed: int = 1

    def questions(self) -> list[Question]:
        """Every case with its seed. The first seed of a diversity prompt is the one that it is examined at."""
        return list(_questions(self))

    @property
    def scored_count(self) -> int:
        """The number of questions that are scored; the ones after them serve diversity alone."""
        return self.cases * (len(CATEGORIES) + len(EDIT_KINDS))


@cache
def _questions(spec: HarderExamSpec) -> tuple[Question, ...]:
    prompts = [prompt_case(spec.seed, i, category) for category in CATEGORIES for i in range(spec.cases)]
    edits = [instruction_case(spec.seed, i, kind) for kind in EDIT_KINDS for i in range(spec.cases)]
    asked = [(case, 1000 + i) for i, case in enumerate([*prompts, *edits])]
    several = [question for category in CATEGORIES for question in _open(asked, category)[: spec.diversity]]
    return (*asked, *((case, 100_000 * n + first) for case, first in several for n in range(1, spec.seeds)))


def _open(asked: list[Question], category: str) -> list[Question]:
    """The prompts of a category that leave something open beside light and pose, and whose answers can be listed."""
    return [(case, seed) for case, seed in asked if case.length == "middle" and case.category == category]


def examine_harder(
    systems: Mapping[str, ExaminedSystem],
    spec: HarderExamSpec,
    reader: probe.Reader,
    accuracy: Mapping[str, Any],
    to: Path,
    advance: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Figures of all systems, and how the others compare with the first; see `fewstep.pocket.exam_table`.

    Args:
        accuracy: the reader's own, and its name, for who reads the figures.
        advance: called with the number of pictures just drawn, or found.

    Raises:
        RunError: `to` holds pictures of another system or of other cases.
    """
    questions = spec.questions()
    galleries = {name: open_exam_gallery(to / name, each, spec.seed, WORLD) for name, each in systems.items()}
    keep_sources(to / "sources", questions)
    records: dict[str, list[ProbeRecord]] = {}
    features: dict[str, Floats] = {}
    nearest: dict[str, list[int | None]] = {}
    for name, system in systems.items():
        drawn = drawn_by(system, galleries[name], questions, advance)
        records[name] = kept_records(reader, drawn, questions[: spec.scored_count], to / name)
        features[name] = probe.features(reader, drawn)
        nearest[name] = nearest_answers(drawn, questions)
    found = figure_lines(FIGURES, records) | {
        "diversity": variety_figures(questions, spec.seeds, features, nearest, lambda case: len(case.answers)),
        "reader": dict(accuracy),
        "paper": asdict(spec),
        "systems": {name: dict(system.facts) for name, system in systems.items()},
    }
    durable.write_atomically(to / "figures.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    return found


def examine_harder_system(
    system: ExaminedSystem,
    questions: Sequence[Question],
    seed: int,
    reader: probe.Reader,
    folder: Path,
    advance: Callable[[int], object] | None = None,
) -> tuple[list[Image.Image], list[ProbeRecord]]:
    """One system's pictures of all questions and their records, both kept in `folder`. seed: of the cases.

    Raises:
        RunError: `folder` holds pictures of another system or of other cases.
    """
    drawn = drawn_by(system, open_exam_gallery(folder, system, seed, WORLD), questions, advance)
    return drawn, kept_records(reader, drawn, questions, folder)


def drawn_by(
    system: ExaminedSystem,
    gallery: Gallery,
    questions: Sequence[Question],
    advance: Callable[[int], object] | None,
) -> list[Image.Image]:
    """The system's pictures; those that the gallery lacks are drawn."""
    draw_missing(gallery, system, questions, BATCH, advance, alike=batch_key)
    return [gallery.picture(case.id, seed) for case, seed in questions]


def batch_key(case: HarderCase) -> tuple[Any, ...]:
    """Cases of one key have one layout and one length of text."""
    return case.size, len(case.references), len(tokenizer().encode(case.prompt).ids)


def kept_records(
    reader: probe.Reader, drawn: list[Image.Image], questions: Sequence[Question], folder: Path
) -> list[ProbeRecord]:
    """The records of the pictures of these questions, the first ones drawn, also written to `folder`, as a whole
    file."""
    scored = drawn[: len(questions)]
    found = [
        picture_record(picture, seen, case, seed)
        for picture, seen, (case, seed) in zip(scored, probe.read(reader, scored), questions, strict=True)
    ]
    durable.write_atomically(folder / "records.jsonl", "".join(json.dumps(r, allow_nan=False) + "\n" for r in found))
    return found


def nearest_answers(drawn: list[Image.Image], questions: list[Question]) -> list[int | None]:
    """Of the prompts that have several seeds; None for the rest."""
    several = {case.id for case, seed in questions if seed >= 100_000}
    return [
        nearest_of(picture, case.answers) if case.id in several else None
        for picture, (case, _) in zip(drawn, questions, strict=True)
    ]
