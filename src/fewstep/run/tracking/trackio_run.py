"""trackio: a run in its store on this machine (TRACKIO_DIR). Needs the extra `trackio`."""

import contextlib
import importlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewstep.run.tracking.tracker import PROJECT, TrackedRun
from fewstep.runtime.errors import EnvironmentRefused

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioRun:
    """run: of trackio. picture: its class of pictures, `trackio.Image`."""

    def __init__(self, run: Any, picture: Any):
        self.run, self.picture = run, picture

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        self.run.log({name: self.picture(str(file)) for name, file in files.items()}, step=step)


def refuse_remote_trackio() -> None:
    """A run on a server cannot be dropped and sent again, so a killed run would leave gaps there without a word.

    Raises:
        EnvironmentRefused: trackio is set to write somewhere else than to this machine.
    """
    for name in ELSEWHERE:
        if os.environ.get(name):
            raise EnvironmentRefused(
                f"track: trackio keeps the run on this machine, and {name} is set; unset it, and publish the finished "
                "run with `trackio sync`"
            )


@contextmanager
def trackio_run(run: TrackedRun) -> Iterator[TrackioRun]:
    """trackio writes in a thread of its own, so a kill loses its last rows, and it cannot tell which. Begun anew, the
    whole run is deleted and sent again."""
    trackio = importlib.import_module("trackio")
    if run.anew:
        _drop(trackio, run.identity)
    silenced = contextlib.redirect_stdout(io.StringIO())  # it prints; only the command line may
    with silenced:
        held = trackio.init(
            PROJECT,
            name=run.identity,
            config=run.recipe.resolved(),
            resume="allow",  # `never` would make a second run of that name
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
    try:
        run.reporter.say(f"tracked as {run.identity} of trackio's project {PROJECT}: trackio show --project {PROJECT}")
        yield TrackioRun(held, trackio.Image)
    finally:
        with silenced:
            trackio.finish()


def _drop(trackio: Any, identity: str) -> None:
    """Deletes a run with its pictures, if there is one."""
    try:
        runs = list(trackio.Api().runs(PROJECT))
    except ValueError:  # no such project yet
        return
    for each in runs:
        if each.name == identity:
            each.delete()
            pictures = importlib.import_module("trackio.media.utils").get_project_media_path(PROJECT, identity)
            shutil.rmtree(pictures, ignore_errors=True)
