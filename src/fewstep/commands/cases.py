"""`fewstep cases`: the prompts and edits a student learns from."""

from pathlib import Path
from typing import Annotated

import typer

from fewstep.commands.shared import out, refusing

app = typer.Typer(no_args_is_help=True, help="The prompts and edits a student learns from.")


@app.command("check")
@refusing
def cases_check(
    files: Annotated[list[Path], typer.Argument(help="Cases files: .jsonl, or .txt with one prompt a line.")],
) -> None:
    """Validate cases, count them by task and category, find duplicates, and name each bad line."""
    from fewstep import tables

    if not tables.check_cases(files, out):
        raise typer.Exit(2)
