"""What is refused of a recipe at the command line before torch and diffusers are imported, which takes seconds."""

from fewstep.backbones.model_door import refuse_no_model
from fewstep.run.best_by import refuse_best_without_examiner
from fewstep.run.recipe import Recipe


def refuse_recipe(recipe: Recipe) -> None:
    """
    Raises:
        RecipeError: `run.best_by` without an examiner. ModelError: no such model.
    """
    refuse_best_without_examiner(recipe)
    refuse_no_model(recipe.model, whole=True)
