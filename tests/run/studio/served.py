"""A studio on a real socket, in a thread of its own."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewstep.cli.verbs.studio import StudioServer
from fewstep.run.studio.app import studio_app
from fewstep.run.studio.jobs import Jobs
from fewstep.run.studio.places import RunPlaces
from fewstep.run.studio.screen_table import SCREENS
from fewstep.run.studio.studio import Studio


@contextmanager
def studio_at(folder: Path, *roots: Path, access_token: str | None = None) -> Iterator[tuple[str, Studio]]:
    """The address, without a slash at its end, and the studio. folder: for the logs of its work."""
    listening = socket.create_server(("127.0.0.1", 0))
    studio = Studio(RunPlaces(roots), Jobs(folder))
    server = StudioServer(studio, studio_app(studio, SCREENS, access_token=access_token))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", studio
    finally:
        studio.closing = server.should_exit = True
        thread.join()
        listening.close()
