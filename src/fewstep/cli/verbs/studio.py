"""`fewstep studio`: runs behind an address."""

import re
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from rich.console import Console
from starlette.types import ASGIApp

from fewstep.run.studio.app import studio_app
from fewstep.run.studio.jobs import Jobs
from fewstep.run.studio.places import RunPlaces
from fewstep.run.studio.screen_table import SCREENS
from fewstep.run.studio.studio import Studio
from fewstep.runtime.errors import EnvironmentRefused
from fewstep.runtime.listening import LOCAL, bound_socket

GRACE_SECONDS = 3  # time for answers to end; streams end by themselves


class StudioServer(uvicorn.Server):
    """Ends the studio's streams as soon as it is asked to end."""

    def __init__(self, studio: Studio, app: ASGIApp):
        super().__init__(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
        )
        self.studio = studio

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.studio.closing = True
        super().handle_exit(sig, frame)


def serve_studio(runs: Sequence[Path], *, host: str, port: int, token: str | None, console: Console) -> None:
    """Serves until it is stopped (Ctrl-C, SIGTERM). Runs that it started go on.

    Raises:
        EnvironmentRefused: the address is taken, or the token cannot stand in an address.
        RunError: a file in place of a folder.
    """
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{8,200}", token):
        raise EnvironmentRefused("--token is 8 to 200 letters, digits, . _ ~ and -; leave it out and one is made")
    places = RunPlaces(runs)
    access = token or (None if host in LOCAL else secrets.token_urlsafe(18))
    with bound_socket(host, port) as listening, tempfile.TemporaryDirectory(prefix="fewstep-studio-") as folder:
        studio = Studio(places, Jobs(Path(folder)))
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        shown = f"{address}?token={access}" if access else address
        console.print(f"studio at {shown}, Ctrl-C ends", highlight=False, soft_wrap=True)
        if host not in LOCAL:
            console.print("[bold]Whoever has this address can see these runs, stop them and start work here.[/]")
        with suppress(KeyboardInterrupt):  # uvicorn raises it again once all is answered
            StudioServer(studio, studio_app(studio, SCREENS, host=host, access_token=access)).run(sockets=[listening])
