"""Seconds per iteration on this machine, measured in a few iterations of one of the study's runs."""

from pathlib import Path

from fewstep.run import launch
from fewstep.run import recipe as recipes
from fewstep.runtime.reporter import Reporter
from fewstep.study.claim import claim_folder
from fewstep.study.folder import StudyFolder
from fewstep.study.forecast import shares
from fewstep.study.grid import Run, StudyGrid

MEASURED = 8  # iterations of a measurement; the median is taken


def measure_rate(grid: StudyGrid, to: Path, reporter: Reporter) -> None:
    """Runs a few iterations of the cell with the most even tasks, so the rate is one of this machine. They go into the
    study's folder as a run called rate, and the study uses what they encode."""

    def unevenness(run: Run) -> float:
        return max(shares(run.recipe).values())

    grid = claim_folder(grid, StudyFolder(to), reporter)
    recipe = min(grid.runs, key=unevenness).recipe
    raw = recipe.resolved()
    raw["run"] |= {"iterations": MEASURED, "examine_every_iterations": 0, "save_every_iterations": MEASURED}
    launch.distill_recipe(recipes.parse_recipe(raw, "rate"), StudyFolder(to).run("rate"), reporter)
