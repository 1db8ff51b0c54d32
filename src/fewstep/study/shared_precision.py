"""One precision for all runs of a study.

`run.precision: auto` is each machine's own answer, and runs that are compared should not differ in it. So the machine
that begins a study answers once, its folder keeps the answer, and every other machine goes on with that.
"""

from dataclasses import replace

from fewstep.run.precision import AUTO, settle_precision, with_precision
from fewstep.runtime.reporter import Reporter
from fewstep.study.folder import StudyFolder, open_study
from fewstep.study.grid import StudyGrid


def settle_study_precision(grid: StudyGrid, place: StudyFolder, reporter: Reporter) -> StudyGrid:
    """The grid with bf16 or fp32 in the place of `auto`; any other grid as it is.

    Raises:
        StudyError: the folder's study cannot be read.
        EnvironmentRefused: the recipes' device is not available here.
    """
    if grid.recipe.run.precision != AUTO:
        return grid
    chosen = _held(place) or settle_precision(grid.recipe, reporter=reporter).run.precision
    return replace(grid, runs=tuple(replace(run, recipe=with_precision(run.recipe, chosen)) for run in grid.runs))


def _held(place: StudyFolder) -> str | None:
    """The precision of the study in this folder, if one has begun. No key of `run` is an axis: its cells share it."""
    if not place.record.is_file():
        return None
    first = next(iter(open_study(place.folder).definition["cells"].values()))
    return None if first["run.precision"] == AUTO else first["run.precision"]
