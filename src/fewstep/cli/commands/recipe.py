"""`fewstep recipe`: what a run is made of."""

import typer

from fewstep.cli.commands.shared import (
    Overrides,
    RecipeName,
    out,
    with_error_message,
)

app = typer.Typer(no_args_is_help=True, help="What a run is made of.")


@app.command("list")
@with_error_message
def recipe_list() -> None:
    """The shipped recipes."""
    from fewstep.cli.verbs import recipes

    recipes.list_recipes(out)


@app.command("show")
@with_error_message
def recipe_show(recipe: RecipeName, overrides: Overrides = None) -> None:
    """A recipe as it would run: every key with its value."""
    from fewstep.cli.chosen_recipe import chosen_recipe
    from fewstep.run.best_by import refuse_best_without_examiner

    chosen = chosen_recipe(recipe, overrides)
    refuse_best_without_examiner(chosen)
    out.print(chosen.resolved_yaml(), highlight=False, markup=False, soft_wrap=True)


@app.command("schema")
@with_error_message
def recipe_schema() -> None:
    """Every key of a recipe: type, default, meaning."""
    from fewstep.cli.verbs import recipes

    recipes.show_schema(out)
