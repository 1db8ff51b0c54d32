"""`fewstep recipe`: what a run is made of."""

import typer

from fewstep.commands.shared import Overrides, RecipeName, out, refusing

app = typer.Typer(no_args_is_help=True, help="What a run is made of.")


@app.command("list")
@refusing
def recipe_list() -> None:
    """The shipped recipes."""
    from fewstep.verbs import answers

    answers.list_recipes(out)


@app.command("show")
@refusing
def recipe_show(recipe: RecipeName, overrides: Overrides = None) -> None:
    """A recipe as it would run: every key with its value."""
    from fewstep.recipe import load

    out.print(load(recipe, overrides or []).resolved_yaml(), highlight=False, markup=False, soft_wrap=True)


@app.command("schema")
@refusing
def recipe_schema() -> None:
    """Every key of a recipe: type, default, meaning."""
    from fewstep.verbs import answers

    answers.show_schema(out)
