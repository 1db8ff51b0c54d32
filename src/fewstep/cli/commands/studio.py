"""`fewstep studio`."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from fewstep.cli.commands.shared import out, with_error_message
from fewstep.runtime.errors import EnvironmentRefused


@with_error_message
def studio(
    runs: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(metavar="[RUNS]...", help="Run folders, or folders that hold runs; `runs` if not given."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8420,
    token: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What a browser must bring to be answered; made and printed if another --host is given."),
    ] = None,
) -> None:
    """Show runs in the browser while they go on: pictures over the iterations, curves, stop, resume, fork.

    Needs `pip install 'fewstep[studio]'`. Nothing is changed unless an action is asked for. Ctrl-C ends it; runs go on.
    """
    try:
        from fewstep.cli.verbs import studio as serving
    except ModuleNotFoundError as error:
        raise EnvironmentRefused(
            f"{error.name} is not installed, and the studio needs it: pip install 'fewstep[studio]'"
        ) from error
    serving.serve_studio(runs or [Path("runs")], host=host, port=port, token=token, console=out)
