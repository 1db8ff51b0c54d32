"""The recipe that a command was asked for."""

from rich.markup import escape

from fewstep.cli.commands.shared import err
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.run.reset_keys import reset_keys
from fewstep.runtime.rank_slice import RankSlice


def chosen_recipe(name: str, overrides: list[str] | None) -> Recipe:
    """The recipe as `--set` changes it. What a change takes away unnamed is told, by one process of a torchrun.

    Raises:
        RecipeError: one line for each error.
        EnvironmentRefused: variables of torchrun that do not fit each other.
    """
    chosen = load_recipe(name, overrides or [])
    reset = reset_keys(name, overrides or [], chosen)
    if reset and RankSlice.from_environment().rank == 0:
        told = f"--set of a whole section also changes what it does not name: {'; '.join(reset)}"
        err.print(f"[bold yellow]fewstep:[/] {escape(told)}", highlight=False, soft_wrap=True)
    return chosen
