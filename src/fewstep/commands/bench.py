"""`fewstep bench`: the examination of any pictures."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.commands.shared import out, refusing

app = typer.Typer(no_args_is_help=True, help="The examination: suites, galleries, judges, metrics, ranks, report.")

SuiteName = Annotated[str, typer.Option("--suite", help="A shipped suite (`fewstep bench suites`) or a folder.")]
SuiteFolder = Annotated[Path, typer.Option("--to", help="The suite's folder; must not exist or be empty.")]

# ---- suites and galleries


@app.command("suites")
@refusing
def bench_suites() -> None:
    """The shipped suites."""
    from fewstep import suite_tables

    suite_tables.list_suites(out)


@app.command("check")
@refusing
def bench_check(
    suite: Annotated[str, typer.Argument(help="A suite's folder, or the name of a shipped one.")],
) -> None:
    """Whether a suite is what its hash says, and what is in it."""
    from fewstep import suite_tables

    if not suite_tables.check_suite(suite, out):
        raise typer.Exit(2)


@app.command("adopt")
@refusing
def bench_adopt(
    folder: Annotated[Path, typer.Argument(help="Pictures made elsewhere.")],
    suite: SuiteName,
    to: Annotated[Path, typer.Option("--to", help="The gallery to make.")],
    system: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What the report calls it; the folder's name if not given."),
    ] = None,
    names: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Pattern of the file names; '{case}.png', or '{case}_{k}.png' where there are seeds."),
    ] = None,
    table: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--map", help="A CSV file with the columns file, case and k, instead of a pattern."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Missing pictures become failed rows.")
    ] = False,
) -> None:
    """Make a gallery of pictures made elsewhere: a competitor's, or another tool's."""
    from fewstep import suite_tables

    suite_tables.adopt_folder(
        folder, suite, to, system=system, names=names, table=table, allow_missing=allow_missing, console=out
    )


@app.command("import")
@refusing
def bench_import(
    layout: Annotated[str, typer.Argument(help="gedit, imgedit, longtext, geneval or oneig.")],
    source: Annotated[Path, typer.Argument(help="The downloaded folder or file.")],
    to: SuiteFolder,
    language: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="en, or cn / zh, where the benchmark has both; en if not given."),
    ] = None,
) -> None:
    """Make a suite of a published benchmark that you have downloaded."""
    from fewstep import suite_tables

    suite_tables.import_suite(layout, source, to, language, out)
