"""`fewstep cases`: the prompts and edits a student learns from."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import (
    Overrides,
    RecipeName,
    out,
    with_error_message,
)

app = typer.Typer(no_args_is_help=True, help="The prompts and edits a student learns from.")


@app.command("check")
@with_error_message
def cases_check(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files (.jsonl, .csv, .parquet, .tar, or .txt with one prompt a line), folders of x.png + x.txt, "
            "or pocket:t2i:N.",
        ),
    ],
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A benchmark suite's folder or file of prompts: name the cases that share 8 words with it."),
    ] = None,
    problems: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A file to write every problem to, one a line; the first 20 of each file are printed."),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The model that will read them: name the cases of more text than it reads."),
    ] = None,
) -> None:
    """Validate cases, count them by task and category, find duplicates, and name each bad line."""
    from fewstep.cli.verbs.cases import check_cases

    if not check_cases(sources, against, out, to=problems, model=model):
        raise typer.Exit(2)


@app.command("convert")
@with_error_message
def cases_convert(
    source: Annotated[str, typer.Argument(help="As for `check`; one file, folder, or pattern such as 'shards/*.tar'.")],
    to: Annotated[Path, typer.Option("--to", help="The .jsonl file to write; it must not exist.")],
) -> None:
    """Write any source as the canonical JSON Lines; pictures out of archives go into a folder beside it."""
    from fewstep.cli.verbs.cases import convert_cases

    convert_cases(source, to, out)


@app.command("plan")
@with_error_message
def cases_plan(
    recipe: RecipeName,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="The run folder the store stands beside; `runs/NAME` if not given."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """What a recipe's run will see - batches by task, samples by category and source, epochs - and the size of its
    conditioning store, before anything is loaded or encoded."""
    from fewstep.cli.chosen_recipe import chosen_recipe

    chosen = chosen_recipe(recipe, overrides)
    from fewstep.cli.verbs.cases_plan import plan_cases

    plan_cases(chosen, to or Path("runs") / chosen.name, out)
