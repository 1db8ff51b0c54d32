"""The study's grids of pictures: the same prompts and noise across cells, or across the iterations of a cell."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from fewstep.bench.gallery import Gallery
from fewstep.runtime import durable
from fewstep.sample.sheet import SheetRow, contact_sheet
from fewstep.study.folder import (
    StudyFolder,
    StudyManifest,
    open_study,
)
from fewstep.study.plan import BASE, FigurePlan
from fewstep.study.results import row_label

ManifestLine = Mapping[str, Any]  # a line of a gallery's manifest
MANIFEST = "manifest.jsonl"


def draw_figures(folder: Path, to: Path) -> list[tuple[FigurePlan, Path]]:
    """Every figure of the study in `folder` whose pictures are there, as a PNG in `to`."""
    place, manifest = StudyFolder(folder), open_study(folder)
    found = []
    for figure in manifest.plan.figures:
        sheet = _grid(figure, place, manifest) if figure.kind == "grid" else _moments(figure, place, manifest)
        if sheet is not None:
            path = to / f"{figure.name}.png"
            durable.replace_atomically(path, partial(_save, sheet))
            found.append((figure, path))
    return found


def _save(sheet: Image.Image, path: Path) -> None:
    sheet.save(path, format="PNG", optimize=True)


def _grid(figure: FigurePlan, place: StudyFolder, manifest: StudyManifest) -> Image.Image | None:
    """Prompts down; source, base teacher and cells across. The cells are at the first seed and at their end."""
    cells = figure.cells or tuple(manifest.plan.cells)
    folders = {"base teacher": place.teacher(BASE)} if BASE in manifest.definition["teachers"] else {}
    last = manifest.moments[-1]
    folders |= {row_label(manifest, c): place.student(manifest.run(c, manifest.seeds[0]), last) for c in cells}
    galleries = {name: Gallery(f) for name, f in folders.items() if (f / MANIFEST).is_file()}
    if not galleries:
        return None
    sources = Gallery(place.sources) if (place.sources / MANIFEST).is_file() else None
    rows = []
    for asked in _first(next(iter(galleries.values())), figure):
        source = _picture(sources, asked["case"], 0)
        drawn = [_picture(gallery, asked["case"], asked["seed"]) for gallery in galleries.values()]
        rows.append(SheetRow(asked["prompt"], [source, *drawn], asked["case"]))
    return contact_sheet(rows, ("source", *galleries))


def _moments(figure: FigurePlan, place: StudyFolder, manifest: StudyManifest) -> Image.Image | None:
    """Prompts and cells down, iterations across, at the first seed."""
    rows: list[SheetRow] = []
    runs = {cell: manifest.run(cell, manifest.seeds[0]) for cell in figure.cells or manifest.plan.cells}
    folders = [place.student(run, manifest.moments[-1]) for run in runs.values()]
    examined = [folder for folder in folders if (folder / MANIFEST).is_file()]
    if not examined:
        return None
    for asked in _first(Gallery(examined[0]), figure):
        for cell, run in runs.items():
            kept = [place.student(run, iteration) for iteration in manifest.moments]
            galleries = [Gallery(f) if (f / MANIFEST).is_file() else None for f in kept]
            drawn = [_picture(gallery, asked["case"], asked["seed"]) for gallery in galleries]
            label = row_label(manifest, cell)
            rows.append(SheetRow(f"{label}: {asked['prompt']}", drawn, f"{label}: {asked['case']}"))
    return contact_sheet(rows, [f"{iteration:,} iterations" for iteration in manifest.moments])


def _first(gallery: Gallery, figure: FigurePlan) -> list[ManifestLine]:
    """The first cases of each category, in the gallery's order: nothing is picked by hand."""
    by_category: dict[str, list[ManifestLine]] = {}
    for line in gallery:
        if line["task"] == figure.task:
            by_category.setdefault(line["category"], []).append(line)
    return [line for lines in by_category.values() for line in lines[: figure.each]]


def _picture(gallery: Gallery | None, case: str, seed: int) -> Image.Image | None:
    return gallery.picture(case, seed) if gallery is not None and (case, seed) in gallery else None
