"""Whether a run's examiner can find the figure that its best checkpoint is chosen by. Without torch."""

from fewstep.run.recipe import Recipe
from fewstep.runtime.errors import RecipeError

EXAMINED = "pocket"  # the only model with an examiner of its own, the probe
FIGURES = ("score", "attributes", "letters", "changed", "exact_psnr", "preserved_psnr", "flat_noise")  # of the probe


def refuse_best_without_examiner(recipe: Recipe, own_examiner: bool = False) -> None:
    """
    Args:
        own_examiner: a Python caller brings one. What it finds is known once it has examined.

    Raises:
        RecipeError: `run.best_by` names a figure that nothing would measure.
    """
    name = recipe.run.best_by
    if name is None or own_examiner:
        return
    if recipe.model != EXAMINED:
        raise RecipeError(
            f"run.best_by: {name:.60} needs an examiner, and model {recipe.model} has none: only {EXAMINED} has its "
            "own. Set run.best_by: null, or give one in Python (fewstep.distill(examiner=...), docs/extending.md)"
        )
    if name not in FIGURES:
        raise RecipeError(f"run.best_by is {name!r:.60}, but the probe's figures are: {', '.join(FIGURES)}")
