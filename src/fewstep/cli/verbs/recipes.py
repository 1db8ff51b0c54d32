"""What `fewstep recipe list` and `schema` print."""

from rich.console import Console
from rich.table import Table

from fewstep.run import recipe as recipes


def list_recipes(console: Console) -> None:
    table = Table("recipe", "model", "size", "iterations", "tasks t2i:edit")
    table.columns[0].no_wrap, table.columns[1].overflow = True, "fold"
    for name in recipes.shipped_recipes():
        r = recipes.load_recipe(name)
        size, tasks = f"{r.size[0]} x {r.size[1]}", ", then ".join(map(str, r.mixture.values))
        table.add_row(name, r.model, size, f"{r.run.iterations:,}", tasks)
    console.print(table)


def show_schema(console: Console) -> None:
    for note in recipes.describe():
        console.print(f"[bold]{note.key}[/]  [dim]{note.type}, default {note.default}[/]", highlight=False)
        if note.description:
            console.print(f"    {note.description}", highlight=False, markup=False)
