"""The study's grids of pictures: the same prompts and noise across cells, or across the iterations of a cell."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep import durable
from fewstep.bench.gallery import Gallery
from fewstep.sample.sheet import contact_sheet
from fewstep.study.folder import Begun, StudyFolder, opened
from fewstep.study.plan import BASE, FigurePlan
from fewstep.study.results import row_label

Asked = Mapping[str, Any]  # a line of a gallery's manifest
MANIFEST = "manifest.jsonl"


def draw_figures(folder: Path, to: Path) -> list[tuple[FigurePlan, Path]]:
    """Every figure of the study in `folder` whose pictures are there, as a PNG in `to`."""
    place, begun = StudyFolder(folder), opened(folder)
    found = []
    for figure in begun.plan.figures:
        sheet = _grid(figure, place, begun) if figure.kind == "grid" else _moments(figure, place, begun)
        if sheet is not None:
            path = to / f"{figure.name}.png"
            durable.replace_by(path, partial(_save, sheet))
            found.append((figure, path))
    return found


def _save(sheet: Image.Image, path: Path) -> None:
    sheet.save(path, format="PNG", optimize=True)


def _grid(figure: FigurePlan, place: StudyFolder, begun: Begun) -> Image.Image | None:
    """Prompts down; source, base teacher and cells across, the cells at the first seed and at their end."""
    cells = figure.cells or tuple(begun.plan.cells)
    folders = {"base teacher": place.teacher(BASE)} if BASE in begun.described["teachers"] else {}
    last = begun.moments[-1]
    folders |= {row_label(begun, c): place.student(begun.run(c, begun.seeds[0]), last) for c in cells}
    galleries = {name: Gallery(f) for name, f in folders.items() if (f / MANIFEST).is_file()}
    if not galleries:
        return None
    sources = Gallery(place.sources) if (place.sources / MANIFEST).is_file() else None
    rows = []
    for asked in _first(next(iter(galleries.values())), figure):
        source = _picture(sources, asked["case"], 0)
        drawn = [_picture(gallery, asked["case"], asked["seed"]) for gallery in galleries.values()]
        rows.append((asked["prompt"], [source, *drawn]))
    return contact_sheet(rows, ("source", *galleries))


def _moments(figure: FigurePlan, place: StudyFolder, begun: Begun) -> Image.Image | None:
    """Prompts and cells down, iterations across, at the first seed."""
    rows: list[tuple[str, Sequence[Image.Image | None]]] = []
    runs = {cell: begun.run(cell, begun.seeds[0]) for cell in figure.cells or begun.plan.cells}
    folders = [place.student(run, begun.moments[-1]) for run in runs.values()]
    examined = [folder for folder in folders if (folder / MANIFEST).is_file()]
    if not examined:
        return None
    for asked in _first(Gallery(examined[0]), figure):
        for cell, run in runs.items():
            kept = [place.student(run, iteration) for iteration in begun.moments]
            galleries = [Gallery(f) if (f / MANIFEST).is_file() else None for f in kept]
            drawn = [_picture(gallery, asked["case"], asked["seed"]) for gallery in galleries]
            rows.append((f"{row_label(begun, cell)}: {asked['prompt']}", drawn))
    return contact_sheet(rows, [f"{iteration:,} iterations" for iteration in begun.moments])


def _first(gallery: Gallery, figure: FigurePlan) -> list[Asked]:
    """The first cases of each category, in the gallery's order: nothing is picked by hand."""
    by_category: dict[str, list[Asked]] = {}
    for line in gallery:
        if line["task"] == figure.task:
            by_category.setdefault(line["category"], []).append(line)
    return [line for lines in by_category.values() for line in lines[: figure.each]]


def _picture(gallery: Gallery | None, case: str, seed: int) -> Image.Image | None:
    return gallery.picture(case, seed) if gallery is not None and (case, seed) in gallery else None
