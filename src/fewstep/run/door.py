"""What is refused of a recipe at the command line before torch and diffusers are imported, which takes seconds."""

from fewstep.backbones.model_door import refuse_no_model
from fewstep.roles.teacher_plan import teacher_plan
from fewstep.run.best_by import refuse_best_without_examiner
from fewstep.run.recipe import Recipe
from fewstep.run.world_parts import refuse_parts_of_another_world

POCKET = "pocket"  # what embedded LoRAs begin with


def refuse_recipe(recipe: Recipe) -> None:
    """
    Raises:
        RecipeError: `run.best_by` without an examiner, or cases or a LoRA of another embedded world.
        ModelError: no such model.
    """
    refuse_best_without_examiner(recipe)
    refuse_parts_of_another_world(recipe)
    refuse_no_model(recipe.model, whole=True)


def user_loras(recipe: Recipe) -> tuple[tuple[str, str, str], ...]:
    """The user's LoRA files that a run would read: the recipe's key that takes it out, the part of the key, the file.
    Reading them takes torch, but neither diffusers nor the model."""
    used = teacher_plan(recipe.teachers, recipe.student.steps).used[1:]
    named = [(f"teachers.named.{name}", "adapter", recipe.teachers.named[name].adapter) for name in used]
    every = [("student.init_from", "", recipe.student.init_from), *named]
    return tuple((key, part, file) for key, part, file in every if file and not file.startswith(f"{POCKET}:"))
