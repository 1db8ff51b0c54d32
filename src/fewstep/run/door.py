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


def user_loras(recipe: Recipe) -> tuple[str, ...]:
    """The LoRA files of the user's that the recipe names. Reading them takes torch, but neither diffusers nor the
    model."""
    named = (spec.adapter for spec in recipe.teachers.named.values())
    files = [file for file in (recipe.student.init_from, *named) if file and not file.startswith("pocket:")]
    return tuple(dict.fromkeys(files))
