"""Whether the host has the memory that blocks and teachers need which wait there."""

import psutil

from fewstep.backbones.families import empty_transformer
from fewstep.run.budget.host_blocks import host_blocks, with_swapped
from fewstep.run.recipe import Recipe
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.train.plan import AUTO


def refuse_too_little_host_memory(recipe: Recipe, ranks: int, fewest: bool = False) -> None:
    """While `run.blocks_to_swap: auto` is not settled, the base's blocks are not counted.

    Args:
        ranks: processes of this machine, each with its own blocks.
        fewest: whether the GPU would not suffice with fewer blocks there.

    Raises:
        RecipeError: `run.blocks_to_swap` is more than the model has.
        EnvironmentRefused: more would wait in host memory than is free.
    """
    if recipe.run.blocks_to_swap == AUTO:
        recipe = with_swapped(recipe, 0)
    if not recipe.run.swapped_blocks and all(one.place == "resident" for one in recipe.teachers.named.values()):
        return
    needed = ranks * host_blocks(recipe, empty_transformer(recipe.model)).bytes
    free = psutil.virtual_memory().available
    if needed > free:
        raise EnvironmentRefused(
            f"{needed / 1e9:.1f} GB of host memory are needed for blocks and teachers that wait there, and "
            f"{free / 1e9:.1f} GB are free. Free memory, {'' if fewest else 'lower run.blocks_to_swap, '}or round the "
            "base with run.base_weights: int8"
        )
