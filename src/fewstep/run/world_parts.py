"""What does not belong to an embedded teacher's world: cases and LoRAs of the other one, and sizes of neither.

All would fit, since the worlds' teachers have the same shapes, and mean nothing. Without torch.
"""

from collections import Counter
from collections.abc import Iterable

from fewstep.backbones.embedded import EMBEDDED, POCKET, TRAINED_SIZES
from fewstep.data.case_sources import scheme_of
from fewstep.data.cases import Case
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


def say_untrained_sizes(model: str, cases: Iterable[Case]) -> str | None:
    """What a user is told of cases at sizes that an embedded teacher was never trained at; None without such cases.

    Args:
        cases: with the size that each is trained at.
    """
    if model not in TRAINED_SIZES:
        return None
    sizes = TRAINED_SIZES[model]
    met = Counter((case.height, case.width) for case in cases)
    strange = {size: count for size, count in met.items() if size not in sizes}
    if not strange:
        return None
    named = ", ".join(f"{count:,} at {high} x {wide}" for (high, wide), count in strange.items())
    known = ", ".join(f"{high} x {wide}" for high, wide in sizes)
    return (
        f"of {met.total():,} cases, {named} px: {model} was never trained at that size, and teaches nothing there; it "
        f"knows {known} (height x width). Set size, or the cases' own height and width"
    )
