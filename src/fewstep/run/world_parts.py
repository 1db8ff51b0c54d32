"""What does not belong to an embedded teacher's world: cases and LoRAs of the other one.

Both would fit, since the worlds' teachers have the same shapes, and mean nothing. Without torch.
"""

from fewstep.backbones.embedded import EMBEDDED, POCKET
from fewstep.data.case_sources import scheme_of
from fewstep.run.recipe import Recipe
from fewstep.runtime.errors import RecipeError
from fewstep.runtime.task import TASKS


def refuse_parts_of_another_world(recipe: Recipe) -> None:
    """Recipes of other models may have any cases: that is the user's affair.

    Raises:
        RecipeError: cases that are drawn from another embedded world than the model's, or an embedded LoRA of it.
    """
    model = recipe.model
    if model not in EMBEDDED:
        return
    for task in TASKS:
        for plan in recipe.data.sources(task):
            scheme = scheme_of(plan.source)
            if scheme in EMBEDDED and scheme != model:
                raise RecipeError(
                    f"data.{task}: {plan.source} has cases of another world than model {model}; write "
                    f"{model}:{plan.source.partition(':')[2]}"
                )
    adapters = {f"teachers.named.{name}.adapter": named.adapter for name, named in recipe.teachers.named.items()}
    for key, adapter in ({"student.init_from": recipe.student.init_from} | adapters).items():
        if adapter is not None and adapter.startswith(f"{POCKET}:") and model != POCKET:
            raise RecipeError(f"{key}: {adapter} was trained over the model pocket, not {model}; leave it out")
