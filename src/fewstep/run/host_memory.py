"""Whether the host has the memory that blocks and teachers need which wait there."""

import psutil

from fewstep.backbones.families import empty_transformer
from fewstep.run.budget.host_blocks import host_blocks
from fewstep.run.recipe import Recipe
from fewstep.runtime.errors import EnvironmentRefused


def refuse_too_little_host_memory(recipe: Recipe, ranks: int) -> None:
    """
    Args:
        ranks: processes of this machine, each with its own blocks.

    Raises:
        RecipeError: `run.blocks_to_swap` is more than the model has.
        EnvironmentRefused: more would wait in host memory than is free.
    """
    if not recipe.run.blocks_to_swap and all(one.place == "resident" for one in recipe.teachers.named.values()):
        return
    needed = ranks * host_blocks(recipe, empty_transformer(recipe.model)).bytes
    free = psutil.virtual_memory().available
    if needed > free:
        raise EnvironmentRefused(
            f"{needed / 1e9:.1f} GB of host memory are needed for blocks and teachers that wait there, and "
            f"{free / 1e9:.1f} GB are free. Free memory, lower run.blocks_to_swap, or round the base with "
            "run.base_weights: int8"
        )
