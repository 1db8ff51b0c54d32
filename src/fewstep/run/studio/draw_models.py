"""Which models a drawing can have as columns: what the runs and folders of the studio hold. Nothing is loaded here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewstep.backbones.embedded import EMBEDDED
from fewstep.roles.teacher_plan import BASE
from fewstep.run.studio.places import EXPORTS, MODEL_FILES, named_below
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.studio import Studio

_KEPT = re.compile(r"iteration-(\d+)\.json")


@dataclass(frozen=True)
class DrawColumn:
    """One column. key: what a page asks for it by. group: the run it belongs to, or empty. source: a folder, hub id or
    "pocket", of a model; else the run whose kept student of `iteration`, or whose `teacher`, is drawn with. steps: None
    leaves them to the model. few: a teacher at the levels of the run's student, without guidance. usual: whether a page
    begins with it."""

    key: str
    title: str
    group: str
    source: str
    steps: int | None = None
    iteration: int | None = None
    teacher: str | None = None
    few: bool = False
    usual: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"key": self.key, "title": self.title, "group": self.group, "usual": self.usual}

    def request(self) -> dict[str, Any]:
        """What the drawing process is told."""
        return asdict(self)


def draw_columns(studio: Studio) -> dict[str, DrawColumn]:
    """By key: of each run its teacher at all steps and at the student's, and its kept students; then student folders;
    and the bundled teachers."""
    found = [column for view in studio.runs() for column in _of_run(view)]
    for name in EMBEDDED:
        found += [DrawColumn(f"model:{name}", name, "", name), DrawColumn(f"few:{name}", f"{name} at 4", "", name, 4)]
    found += list(_folders(studio))
    return {column.key: column for column in found}


def _of_run(view: RunView) -> Iterator[DrawColumn]:
    recipe = view.recipe()
    model, plan = recipe.get("model"), recipe.get("student")
    if not isinstance(model, str):
        return
    steps = plan.get("steps") if isinstance(plan, dict) else None
    few = steps if isinstance(steps, int) else 4
    run = str(view.folder)
    yield DrawColumn(f"teacher:{view.name}", "Teacher", view.name, run, teacher=BASE, usual=True)
    for name, spec in _named(recipe).items():
        usual = isinstance(spec, dict) and spec.get("anchor") is True
        yield DrawColumn(f"teacher:{view.name}:{name}", f"Teacher {name}", view.name, run, teacher=name, usual=usual)
    yield DrawColumn(f"few:{view.name}", f"Teacher at {few}", view.name, run, teacher=BASE, few=True, usual=True)
    for name in _named(recipe):
        title = f"Teacher {name} at {few}"
        yield DrawColumn(f"few:{view.name}:{name}", title, view.name, run, teacher=name, few=True)
    kept = kept_iterations(view.folder)
    for iteration in reversed(kept):
        title = f"Iteration {iteration:,}"
        usual = iteration == kept[-1]
        yield DrawColumn(f"kept:{view.name}:{iteration}", title, view.name, run, iteration=iteration, usual=usual)
    for name, folder in named_below((view.folder / EXPORTS,), _is_model).items():
        yield DrawColumn(f"export:{view.name}:{name}", f"Export {name}", view.name, str(folder))


def _named(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The specialised teachers of a recipe."""
    teachers = recipe.get("teachers")
    named = teachers.get("named") if isinstance(teachers, dict) else None
    return {str(name): spec for name, spec in named.items()} if isinstance(named, dict) else {}


def kept_iterations(run: Path) -> list[int]:
    """The iterations whose averaged student a run keeps, without reading them."""
    try:
        names = [path.name for path in (run / "students").iterdir()]
    except OSError:
        return []
    return sorted(int(match[1]) for name in names if (match := _KEPT.fullmatch(name)))


def _folders(studio: Studio) -> Iterator[DrawColumn]:
    """Students and other pipeline folders below the studio's roots, those inside of runs among them."""
    runs = {view.folder / EXPORTS for view in studio.runs()}  # those are with their runs
    for name, folder in named_below(studio.places.roots, _is_model).items():
        if folder.parent in runs:
            continue
        yield DrawColumn(f"folder:{name}", name, "", str(folder))


def _is_model(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MODEL_FILES)
