"""Commands about a run that is there: which of its students to ship, and a page on it."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import out, with_error_message


@with_error_message
def rank(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    by: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The figure that ranks; the run's `best_by` or `composite` if not given."),
    ] = None,
) -> None:
    """Examine all kept students of a run alike, and say which to ship.

    What the run has examined itself is not drawn again. `fewstep export --checkpoint best` follows the answer.
    """
    from fewstep.cli.terminal import TerminalReporter
    from fewstep.cli.verbs.rank import print_ranking
    from fewstep.run.self_exam.rank import rank_run

    print_ranking(rank_run(run, by=by, reporter=TerminalReporter(out)), out)


@with_error_message
def report(
    run: Annotated[Path, typer.Argument(help="A run folder; the run may still be going on.")],
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", help="The file to write; report.html in the run folder if not given."),
    ] = None,
) -> None:
    """Write one page on a run: curves, examinations beside the teacher, pictures, events, what to ship."""
    from fewstep.run.reporting import report_run

    out.print(str(report_run(run, to)), highlight=False, soft_wrap=True)
