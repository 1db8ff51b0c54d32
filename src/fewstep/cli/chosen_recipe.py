"""The recipe that a command was asked for."""

from rich.markup import escape

from fewstep.cli.commands.error_reporter import reports_error
from fewstep.cli.commands.shared import err
from fewstep.run.recipe import Recipe, load_recipe
from fewstep.run.reset_keys import reset_keys


def chosen_recipe(name: str, overrides: list[str] | None) -> Recipe:
    """The recipe as `--set` changes it. What a change resets without naming it is told.

    Raises:
        RecipeError: one line for each error.
    """
    chosen = load_recipe(name, overrides or [])
    reset = reset_keys(name, overrides or [])
    if reset and reports_error():
        told = f"--set replaces a whole section, and what it does not name has its default: {'; '.join(reset)}"
        err.print(f"[bold yellow]fewstep:[/] {escape(told)}", highlight=False, soft_wrap=True)
    return chosen
