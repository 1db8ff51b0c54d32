"""The cases of a recipe, each with the size at which it is trained."""

from collections.abc import Callable
from pathlib import Path

from fewstep.data.case_sizes import CaseSizes, EditRule
from fewstep.data.composition import Composition
from fewstep.data.sources import build_composition
from fewstep.run.recipe import Recipe
from fewstep.run.world_parts import say_untrained_sizes


def recipe_composition(
    recipe: Recipe, cache: Path, family: EditRule, remark: Callable[[str], object] = lambda text: None
) -> Composition:
    """The recipe's cases, read and cut into streams. All of them state a size.

    Args:
        cache: the folder of generated and unpacked cases.
        family: of the recipe's model, or an estimate of it.
        remark: takes messages about sizes that no case is trained at.

    Raises:
        CaseError: a source that cannot be used, or a reference that the model refuses.
        RecipeError: no source for a task, or a share for a category that no source has.
    """
    read = build_composition(recipe.data, recipe.mixture, cache)
    sizes = CaseSizes(recipe.data.sizes, recipe.size, recipe.run.seed, family)
    for text in sizes.remarks(read.cases()):
        remark(text)
    settled = sizes.settled(read)
    if (told := say_untrained_sizes(recipe.model, settled.cases())) is not None:
        remark(told)
    return settled
