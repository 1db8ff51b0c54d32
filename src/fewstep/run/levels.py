"""What `student.shift: teacher` and `objective.time_shift: teacher` stand for with this model.

The student's grid is settled once, before anything else of a run, as `run.precision: auto` is. The run folder's recipe
then holds the word and, beside it as `student.sigmas`, the levels that it stood for. So rollout, sampler, export, card
and ComfyUI's graph follow ONE list, and a run that goes on keeps it whatever a later version of diffusers computes.

The times of p(t) follow each batch's own resolution and have nothing to keep.
"""

from contextlib import suppress
from pathlib import Path

from fewstep.backbones.fake_model import ModelSize
from fewstep.backbones.families import StockLevels, levels_of, stock_levels
from fewstep.backbones.published_sizes import SCHEDULER
from fewstep.flow.sigmas import SigmaGrid
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.runtime.errors import FewstepError
from fewstep.runtime.reporter import SILENT, Reporter
from fewstep.runtime.shift_key import TEACHER


def settle_levels(recipe: Recipe, folder: Path | None = None, reporter: Reporter = SILENT) -> Recipe:
    """The recipe with the levels that `student.shift: teacher` stands for; any other recipe as it is.

    They are those of the recipe's `size`: one grid ships, and it must be that of the pictures that will be made most.

    Args:
        folder: of the run that this is for, or of the one it is forked from. What that run began with stays, unless
            model, size or number of steps are others.

    Raises:
        ModelError: the model is not found, or of an unknown family.
        RecipeError: its scheduler has settings that are not supported here.
    """
    if recipe.student.is_settled and recipe.objective.time_shift != TEACHER:
        return recipe
    levels = stock_levels(recipe.model, recipe.size, recipe.student.steps)
    settled = (
        recipe if recipe.student.is_settled else with_levels(recipe, _held(recipe, folder) or levels.student.sigmas)
    )
    for line in _in_words(settled, levels):
        reporter.say(line)
    return settled


def levels_for(recipe: Recipe, size: ModelSize) -> tuple[Recipe, list[str]]:
    """The recipe as a plan counts it, for a model that need not be here, and a line for each `teacher` in it."""
    if recipe.student.is_settled and recipe.objective.time_shift != TEACHER:
        return recipe, []
    if size.scheduler is None:  # memory and work are the same at any levels
        even = (
            recipe if recipe.student.is_settled else with_levels(recipe, SigmaGrid.static(recipe.student.steps).sigmas)
        )
        return even, [f"noise levels: not known here; they are the teacher's own, and its {SCHEDULER} is not there"]
    levels = levels_of(size.family, size.index, size.scheduler, recipe.size, recipe.student.steps)
    settled = recipe if recipe.student.is_settled else with_levels(recipe, levels.student.sigmas)
    return settled, _in_words(settled, levels)


def with_levels(recipe: Recipe, sigmas: tuple[float, ...]) -> Recipe:
    student = recipe.student.model_copy(update={"sigmas": sigmas})
    return recipe.model_copy(update={"student": student})


def _in_words(recipe: Recipe, levels: StockLevels) -> list[str]:
    """A line for each `teacher` in a settled recipe."""
    lines, size = [], f"{recipe.size[0]} x {recipe.size[1]}"
    if recipe.student.shift == TEACHER:
        shown = ", ".join(f"{sigma:.3f}" for sigma in recipe.student.grid)
        left = f", without its shift_terminal {levels.terminal:g}" if levels.terminal else ""
        lines.append(f"noise levels {shown}: the teacher's own shift at {size}{left} (student.shift: teacher)")
    if recipe.objective.time_shift == TEACHER:
        shift, steps = levels.time_shift, levels.default_steps
        lines.append(
            f"times through shift {shift:.3g} at {size}, the teacher's own in {steps} steps "
            "(objective.time_shift: teacher)"
        )
    return lines


def _held(recipe: Recipe, folder: Path | None) -> tuple[float, ...] | None:
    """The levels that the run in a folder began with. A recipe that cannot be read is refused where the run is
    opened."""
    file = None if folder is None else folder / "recipe.yaml"
    if file is None or not file.is_file():
        return None
    with suppress(FewstepError):
        held = load_recipe(file)
        same = (held.model, held.size, held.student.steps) == (recipe.model, recipe.size, recipe.student.steps)
        return held.student.sigmas if same and held.student.shift == TEACHER else None
    return None
