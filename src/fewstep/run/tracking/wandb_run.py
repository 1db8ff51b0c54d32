"""Weights & Biases: a run on its server, or offline in `wandb/` of the run folder. Needs the extra `wandb`."""

import importlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewstep.run.tracking.tracker import PROJECT, TrackedRun
from fewstep.runtime.errors import EnvironmentRefused

LONGEST_FINISH_S = 600  # ours: a server that is gone must not hold a run that has ended
ASK_NOTHING = {"silent": True, "console": "off"}  # it would ask for a key, print, and wrap the output of the run


class WandbRun:
    """run, picture: of wandb. first: steps before it are on the server already, which takes each step once."""

    def __init__(self, run: Any, picture: Any, first: int):
        self.run, self.picture, self.first = run, picture, first

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self.first:
            self.run.log(dict(values), step=step)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        if step >= self.first:
            self.run.log({name: self.picture(str(file)) for name, file in files.items()}, step=step)


def refuse_wandb_without_key() -> None:
    """
    Raises:
        EnvironmentRefused: wandb is to send the run to its server, and has no key for it.
    """
    wandb = importlib.import_module("wandb")
    if can_go_on() and not wandb.login(prompt=False, verify=False):
        raise EnvironmentRefused(
            "track: wandb has no key for its server; call `wandb login`, or set WANDB_MODE=offline and send the run "
            "later with `wandb sync`"
        )


def can_go_on() -> bool:
    """Whether what an earlier start sent can be added to. Offline each start writes a folder of its own, and several of
    one run would have to be sent one by one, in order."""
    return bool(importlib.import_module("wandb").setup().settings.mode == "online")


@contextmanager
def wandb_run(run: TrackedRun) -> Iterator[WandbRun]:
    """Offline, those folders of earlier starts are deleted and the whole run is written again. The server deletes
    nothing: it tells the first step that it has not."""
    wandb, offline = importlib.import_module("wandb"), not can_go_on()
    if offline:
        for earlier in (run.folder / "wandb").glob(f"offline-run-*-{run.identity}"):
            shutil.rmtree(earlier)
    held = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run.recipe.name,
        id=run.identity,
        dir=str(run.folder),
        config=run.recipe.resolved(),
        resume=None if offline else "allow",
        settings=wandb.Settings(**ASK_NOTHING, finish_timeout=LONGEST_FINISH_S),
    )
    ended = 1
    try:
        run.reporter.say(f"tracked by wandb: {held.dir if offline else held.url}")
        yield WandbRun(held, wandb.Image, held.starting_step)
        ended = 0
    finally:
        held.finish(exit_code=ended)
