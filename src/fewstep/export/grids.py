"""How a student's noise levels are stored in its folder, so that the stock class samples at them.

A class that reads `sample_sigmas` gets the list, and a scheduler that does not change it. Every other class makes even
steps 1, 1 - 1/n, .., 1/n when it is called with `num_inference_steps=n`, and its scheduler shifts them. So a static
shift can express exactly those grids that are even steps shifted once, such as 1, 0.9, 0.75, 0.5.
"""

from dataclasses import dataclass
from typing import Any

from fewstep.backbones.folder import SIGMAS_FILE
from fewstep.backbones.pipeline_backbone import PipelineBackbone
from fewstep.flow.sigmas import SigmaGrid
from fewstep.runtime.errors import ExportError

TOLERANCE = 1e-6  # the stock scheduler works in float32
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "shift_terminal": None,
}


@dataclass(frozen=True)
class GridSettings:
    """index: what is added to the base's model_index.json. files: further JSON files by name."""

    scheduler: dict[str, Any]
    index: dict[str, Any]
    files: dict[str, list[float]]


def grid_settings(family: type[PipelineBackbone], grid: SigmaGrid) -> GridSettings:
    """How the folder of a student of `family` stores `grid`.

    Raises:
        ExportError: the stock class cannot be made to sample on it.
    """
    index = dict(family.student_index)
    if family.reads_sample_sigmas:
        return GridSettings(SCHEDULER, index | {"sample_sigmas": list(grid)}, {})
    shift = static_shift(grid)
    if shift is None:
        raise ExportError(
            f"a student of {family.family} cannot carry the noise levels {list(grid)}: its stock pipeline takes even "
            "steps and shifts them once, so it samples only at grids of that form. Distil with student.shift (3 gives "
            "1, .9, .75, .5 in four steps) and without student.sigmas"
        )
    return GridSettings(SCHEDULER | {"shift": shift}, index, {SIGMAS_FILE: list(grid)})


def static_shift(grid: SigmaGrid) -> float | None:
    """The shift a that turns even steps into `grid`, to 1e-6; None if there is none."""
    steps = len(grid)
    if steps == 1:
        return 1.0 if grid[0] == 1 else None
    even, second = 1 - 1 / steps, grid[1]
    shift = round(second * (1 - even) / (even * (1 - second)), 9)
    made = SigmaGrid.static(steps, shift)
    return shift if all(abs(a - b) <= TOLERANCE for a, b in zip(made, grid, strict=True)) else None
