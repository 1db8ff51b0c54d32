"""The examination: several systems answer the same held-out cases with the same seeds, and the probe reads the answers.

A system is anything that draws cases. Typically there are three: the teacher at its full steps with guidance, the
teacher at the student's few steps without guidance, and the student. The first one named is the reference; the others
are compared with it pair by pair. Pictures and records are files, and existing ones are not drawn again.

The folder then holds sources/ (of the edits), figures.json, and for each system pictures/, manifest.jsonl and
records.jsonl.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewstep.bench import statistics
from fewstep.bench.statistics import Floats
from fewstep.pocket.cases import (
    PocketCase,
    edit_case,
    t2i_case,
)
from fewstep.pocket.edits import EDITS
from fewstep.pocket.exact_answers import exact_answers, nearest_answer
from fewstep.pocket.exam_gallery import ExaminedSystem, Sampler, draw_missing, keep_sources, open_exam_gallery
from fewstep.pocket.exam_table import ExamFigure, ProbeRecord, figure_lines, variety_figures
from fewstep.pocket.measure import pixels_of, psnr_8bit
from fewstep.pocket.probe import Probe
from fewstep.pocket.world import CATEGORIES
from fewstep.runtime import durable


@dataclass(frozen=True)
class ExamSpec:
    """The questions of an examination. cases: held-out prompts of each category, and edits of each kind; diversity:
    prompts of each category that are drawn with `seeds` seeds. Cases are pure functions of `seed`."""

    cases: int = 100
    diversity: int = 8
    seeds: int = 8
    seed: int = 1
    batch: int = 64

    def questions(self) -> list[tuple[PocketCase, int]]:
        """Every case with its seed. The first seed of a diversity prompt is the one that it is examined at."""
        t2i = [t2i_case(self.seed, i, category_=kind) for kind in CATEGORIES for i in range(self.cases)]
        edits = [edit_case(self.seed, i, kind=kind) for kind in EDITS for i in range(self.cases)]
        asked = [(case, 1000 + i) for i, case in enumerate([*t2i, *edits])]
        several = [asked[k * self.cases + i] for k in range(len(CATEGORIES)) for i in range(self.diversity_cases)]
        return asked + [(case, 100_000 * n + first) for case, first in several for n in range(1, self.seeds)]

    @property
    def diversity_cases(self) -> int:
        return min(self.diversity, self.cases) if self.seeds > 1 else 0

    @property
    def scored_count(self) -> int:
        """The number of questions that are scored; the ones after them serve diversity alone."""
        return self.cases * (len(CATEGORIES) + len(EDITS))


def examine(
    systems: Mapping[str, ExaminedSystem],
    spec: ExamSpec,
    probe: Probe,
    to: Path,
    advance: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Figures of all systems, and how the others compare with the first; see `exam_figures`.

    Args:
        advance: called with the number of pictures just drawn, or found.

    Raises:
        RunError: `to` holds pictures of another system or another exam spec.
    """
    questions = spec.questions()
    records: dict[str, list[ProbeRecord]] = {}
    features: dict[str, Floats] = {}
    seen: dict[str, list[int | None]] = {}
    for name, system in systems.items():
        open_exam_gallery(to / name, system, spec.seed)  # refuses before anything is drawn
    keep_sources(to / "sources", questions)
    for name, system in systems.items():
        drawn, records[name] = examine_system(system, questions, spec, probe, to / name, spec.scored_count, advance)
        features[name] = np.asarray(probe.features(drawn), dtype=np.float64)
        seen[name] = [
            nearest_answer(p, case.scene)[1] if case.task == "t2i" else None
            for p, (case, _) in zip(drawn, questions, strict=True)
        ]
    found = exam_figures(records) | {
        "frechet": _frechet(features, questions, spec, probe),
        "diversity": variety_figures(
            questions, spec.seeds, features, seen, lambda case: len(exact_answers(case.scene))
        ),
        "probe": probe.accuracy,
        "paper": asdict(spec),
        "systems": {name: dict(system.facts) for name, system in systems.items()},
    }
    durable.write_atomically(to / "figures.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    return found


def examine_system(
    system: ExaminedSystem,
    questions: Sequence[tuple[PocketCase, int]],
    spec: ExamSpec,
    probe: Probe,
    folder: Path,
    scored_count: int | None = None,
    advance: Callable[[int], object] | None = None,
) -> tuple[list[Image.Image], list[ProbeRecord]]:
    """One system's pictures of all questions, and the records of the first `scored_count` (of all if it is None). Both
    are written to `folder`, the records last, as a whole file.

    Raises:
        RunError: `folder` holds pictures of another system or another exam spec.
    """
    gallery = open_exam_gallery(folder, system, spec.seed)
    draw_missing(gallery, system, questions, spec.batch, advance)
    drawn = [gallery.picture(case.id, seed) for case, seed in questions]
    records = _judged(probe, drawn[:scored_count], questions[:scored_count])
    durable.write_atomically(folder / "records.jsonl", "".join(json.dumps(r, allow_nan=False) + "\n" for r in records))
    return drawn, records


def headline(sampler: Sampler, questions: Sequence[tuple[PocketCase, int]], probe: Probe) -> dict[str, float]:
    """A few means that are not stored, for looking at a student while it trains."""
    cases, seeds = [case for case, _ in questions], [seed for _, seed in questions]
    records = _judged(probe, sampler(cases, seeds), questions)
    found: dict[str, float] = {}
    for name, wanted in {
        "attributes": lambda r: r["attributes"] if r["task"] == "t2i" else None,
        "letters": lambda r: r["letters_exact"] if r["task"] == "t2i" else None,
        "changed": lambda r: r["changed"],
        "exact_psnr": lambda r: r["exact_psnr"] if r["task"] == "t2i" else None,
        "preserved_psnr": lambda r: r["preserved_psnr"],
        "flat_noise": lambda r: r["flat_noise"],
    }.items():
        values = [float(value) for record in records if (value := wanted(record)) is not None]
        if values:
            found[name] = float(np.mean(values))
    return found


def _judged(
    probe: Probe, pictures: Sequence[Image.Image], questions: Sequence[tuple[PocketCase, int]]
) -> list[ProbeRecord]:
    """The probe's records, with task and seed."""
    read = probe.examine(pictures, [case for case, _ in questions])
    return [
        {"case": case.id, "task": case.task, "seed": seed, "exact_psnr": _exact(picture, case), **record}
        for picture, (case, seed), record in zip(pictures, questions, read, strict=True)
    ]


def _exact(picture: Image.Image, case: PocketCase) -> float:
    """dB to the exact answer: the nearest one of a prompt's, the only one of an edit's."""
    if case.task == "t2i":
        return nearest_answer(picture, case.scene)[0]
    return psnr_8bit(*pixels_of([picture, case.target]))


# ---- figures


def _one(task: str, category: str | None, name: str) -> Callable[[ProbeRecord], Any]:
    def value(record: ProbeRecord) -> Any:
        fits = record["task"] == task and category in (None, record["category"])
        return record[name] if fits else None

    return value


T2I, EDIT = "Text to image", "Edits"
NAMES = {"landscape": "landscapes", "portrait": "portraits", "text": "signs"}
FIGURES = (
    ExamFigure("t2i.attributes", T2I, "Attributes right", _one("t2i", None, "attributes")),
    *(
        ExamFigure(f"t2i.attributes.{c}", T2I, f"Attributes right, {name}", _one("t2i", c, "attributes"))
        for c, name in NAMES.items()
    ),
    ExamFigure("t2i.letters", T2I, "Words exact, letter by letter", _one("t2i", "text", "letters_exact")),
    ExamFigure(
        "t2i.exact", T2I, "Nearest exact answer", _one("t2i", None, "exact_psnr"), unit="dB", compared="difference"
    ),
    ExamFigure("t2i.flat_noise", T2I, "Noise on flat areas", _one("t2i", None, "flat_noise"), "lower", "levels of 255"),
    ExamFigure("edit.changed", EDIT, "Asked-for change made", _one("edit", None, "changed")),
    *(
        ExamFigure(f"edit.changed.{k}", EDIT, f"Asked-for change made, {k}", _one("edit", k, "changed"))
        for k in EDITS
        if k != "perceptual"
    ),
    ExamFigure(
        "edit.attributes.perceptual", EDIT, "Attributes right after repair", _one("edit", "perceptual", "attributes")
    ),
    ExamFigure(
        "edit.exact", EDIT, "The exact answer", _one("edit", None, "exact_psnr"), unit="dB", compared="difference"
    ),
    ExamFigure(
        "edit.preserved",
        EDIT,
        "Rest left alone",
        _one("edit", None, "preserved_psnr"),
        unit="dB",
        compared="difference",
    ),
    ExamFigure(
        "edit.flat_noise", EDIT, "Noise on flat areas", _one("edit", None, "flat_noise"), "lower", "levels of 255"
    ),
)


def exam_figures(records: Mapping[str, Sequence[ProbeRecord]]) -> dict[str, Any]:
    """The pocket world's figures of these records; see `figure_lines`."""
    return figure_lines(FIGURES, records)


def _frechet(
    features: Mapping[str, Floats], questions: Sequence[tuple[PocketCase, int]], spec: ExamSpec, probe: Probe
) -> dict[str, Any]:
    """Frechet distance of T2I pictures to renders of equally many other held-out scenes. floor: the same for the
    renders of the examined scenes themselves; a perfect system would reach this, not 0."""
    n = spec.cases * len(CATEGORIES)
    others = [t2i_case(spec.seed + 1, i, category_=kind).target for kind in CATEGORIES for i in range(spec.cases)]
    real = np.asarray(probe.features(others))
    floor = statistics.frechet(np.asarray(probe.features([case.target for case, _ in questions[:n]])), real)
    values = {name: statistics.frechet(x[:n], real) for name, x in features.items()}
    return {"n": n, "floor": floor, "values": values}
