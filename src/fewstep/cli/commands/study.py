"""`fewstep study`: whole experiments, one factor at a time."""

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.markup import escape

from fewstep.cli.commands.shared import (
    Overrides,
    out,
    with_error_message,
)

app = typer.Typer(no_args_is_help=True, help="Whole experiments: cells along one axis, examined alike.")

StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A shipped study (`fewstep study list`) or a YAML file of yours.")
]
World = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Which of the study's worlds; `pocket` where it has one."),
]
Seeds = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(help="Runs of each cell; the study's own number if not given. More may be added later.", min=1),
]
StudyCaseCount = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        help="Held-out cases of each category; the study's own number if not given. Another may be asked later.", min=1
    ),
]
To = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="The study's folder; `runs/studies/NAME` if not given."),
]


@app.command("list")
@with_error_message
def study_list() -> None:
    """The shipped studies."""
    from fewstep.study import plan

    for name in plan.shipped_studies():
        study, _ = plan.load_study(name)
        out.print(f"[bold]{name}[/]  {study.question}", highlight=False, soft_wrap=True)
        cells, runs = ", ".join(study.cells), len(study.cells) * len(study.seeds)
        out.print(f"    cells: {cells} (by {', '.join(study.axis)}); {runs} runs", highlight=False, soft_wrap=True)
        out.print(f"    worlds: {', '.join(study.worlds)}", highlight=False, soft_wrap=True)


@app.command("plan")
@with_error_message
def study_plan(
    study: StudyName,
    world: World = None,
    seeds: Seeds = None,
    cases: StudyCaseCount = None,
    to: To = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Take a few iterations here, to say how long it will be.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """What a study will do: its runs by number, updates, network calls, and hours at a measured rate."""
    from fewstep.study import grid, plan

    told, beside = plan.load_study(study)
    runs = grid.resolve_grid(told, beside, world=world, seeds=seeds, cases=cases, overrides=overrides or [])
    place = to or _default_folder(runs.plan.name, runs.world)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.study_plan import print_forecast

    if measure:
        from fewstep.study.rate import measure_rate

        measure_rate(runs, place, TerminalReporter(out))
    print_forecast(runs, place, out)


@app.command("run")
@with_error_message
def study_run(
    study: StudyName,
    world: World = None,
    seeds: Seeds = None,
    cases: StudyCaseCount = None,
    cell: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Only this number of the plan: for the jobs of a cluster's array.", min=0),
    ] = None,
    to: To = None,
    overrides: Overrides = None,
) -> None:
    """Run a study: teachers examined once, then every run, one after another.

    What is done is skipped, what was stopped goes on: it is the same command. `--set` holds for all cells alike.
    """
    from fewstep.study import grid, plan

    told, beside = plan.load_study(study)
    runs = grid.resolve_grid(told, beside, world=world, seeds=seeds, cases=cases, overrides=overrides or [])
    place = to or _default_folder(runs.plan.name, runs.world)
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.study.run import run_study

    run_study(runs, place, TerminalReporter(out), only=cell, other_cases=cases is not None)
    shown = escape(str(place))
    out.print(f"study [bold]{shown}[/]: fewstep study report {shown}", highlight=False, soft_wrap=True)


@app.command("report")
@with_error_message
def study_report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A study's folder; it need not be finished.")],
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", help="Where the report goes; `report` in the study's folder if not given."),
    ] = None,
) -> None:
    """Tables beside the paper's, takeaways with their intervals, grids of pictures: JSON, Markdown and one HTML page.

    Reads the study's records only; needs no model.
    """
    from fewstep.study.report import report_study

    found, place = report_study(folder, to)
    for takeaway in found["takeaways"]:
        out.print(f"{takeaway['number']}. {takeaway['says']} [bold]{takeaway['verdict']}[/]", highlight=False)
    out.print(escape(str(place / "report.html")), highlight=False, soft_wrap=True)


def _default_folder(name: str, world: str) -> Path:
    """runs/studies/NAME; for another world, its name is part of it."""
    return Path("runs") / "studies" / (name if world == "pocket" else f"{name}-{world}")
