"""The pictures of an examination: one gallery for each system, drawn once.

A case needs only what is asked of a sampler, so the cases of any world will do.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.gallery import Gallery
from fewstep.pocket.asked_case import AskedCase
from fewstep.runtime import durable
from fewstep.runtime.errors import RunError
from fewstep.runtime.strict_json import load_json

Sampler = Callable[[Sequence[Any], Sequence[int]], list[Image.Image]]  # cases of its world, and a seed for each
Questions = Sequence[tuple[AskedCase, int]]  # cases with their seeds


@dataclass(frozen=True)
class ExaminedSystem:
    """A system to examine. facts (model, noise levels, guidance, network calls): needed to interpret its figures; a
    gallery with other facts belongs to another system."""

    sampler: Sampler
    facts: Mapping[str, Any]


def keep_sources(folder: Path, questions: Questions) -> None:
    """Writes the reference pictures of the edits, for people who look at the answers. Their number stands for a
    seed."""
    gallery = Gallery(folder)
    for case, _ in questions:
        for number, picture in enumerate(case.references):
            if (case.id, number) not in gallery:
                gallery.add(case.id, number, picture, {"prompt": case.prompt, "category": case.category})


def open_exam_gallery(folder: Path, system: ExaminedSystem, seed: int, cases: str = "held out") -> Gallery:
    """The system's gallery, new or continued. seed, cases: which cases it answers.

    Raises:
        RunError: `folder` holds pictures of another system, or of other cases.
    """
    told = json.loads(json.dumps({"facts": dict(system.facts), "cases": cases, "seed": seed}))
    described = folder / "system.json"
    if described.is_file() and _whole_json(described, f"remove {folder}, and it is drawn again") != told:
        raise RunError(
            f"{folder} holds the pictures of another model, or at another grid or guidance; choose another --out, "
            "or remove that folder"
        )
    durable.make_folder(folder)
    durable.write_atomically(described, json.dumps(told, indent=1) + "\n")
    return Gallery(folder)


def kept_figures(folder: Path) -> dict[str, Any] | None:
    """The figures of the finished examination in `folder`, if there is one.

    Raises:
        RunError: the file is torn, or holds something else.
    """
    file, remedy = folder / "figures.json", "remove it, and the examination's own command writes it again"
    if not file.is_file():
        return None
    found = _whole_json(file, remedy)
    shapes = {"systems": dict, "figures": list, "reader": dict}
    if not all(isinstance(found.get(key, shape()), shape) for key, shape in shapes.items()) or "figures" not in found:
        raise RunError(f"{file} is not what an examination writes; {remedy}")
    return found


def _whole_json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        found = load_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({type(error).__name__}); {remedy}") from error
    if not isinstance(found, dict):
        raise RunError(f"{file} is not what an examination writes; {remedy}")
    return found


def draw_missing(
    gallery: Gallery,
    system: ExaminedSystem,
    questions: Questions,
    batch: int,
    advance: Callable[[int], object] | None = None,
    alike: Callable[[Any], Any] | None = None,
) -> None:
    """Draws what the gallery lacks, `batch` pictures at a time.

    Args:
        advance: called with the number of pictures just drawn, or found.
        alike: a key of a case. Cases of one key are drawn one after another, so that batches are of one layout.
    """
    missing = [(case, seed) for case, seed in questions if (case.id, seed) not in gallery]
    if alike is not None:
        missing.sort(key=lambda question: alike(question[0]))
    if advance is not None:
        advance(len(questions) - len(missing))
    for start in range(0, len(missing), batch):
        part = missing[start : start + batch]
        drawn = system.sampler([case for case, _ in part], [seed for _, seed in part])
        for (case, seed), picture in zip(part, drawn, strict=True):
            facts = {"prompt": case.prompt, "task": case.task, "category": case.category}
            gallery.add(case.id, seed, picture.convert("RGB"), facts)
        if advance is not None:
            advance(len(part))
