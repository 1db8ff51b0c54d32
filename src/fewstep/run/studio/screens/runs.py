"""The list of runs, and what can be done with one: stop, resume, fork."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from fewstep.run.recipe import Recipe, load_recipe, recipe_diff
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.command_words import command_line, log_tail
from fewstep.run.studio.holder import holder_of, interrupt
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.studio import Screen, Studio, acting, asked, reading, text_field

LOG = "studio.log"  # in the run folder: what a process printed that the studio started
MOST_CHANGES = 100


class RunsScreen:
    def __init__(self, studio: Studio):
        self.studio = studio

    def list(self, request: Request) -> dict[str, Any]:
        roots = [str(root) for root in self.studio.places.roots]
        runs = [view.unread() if line is None else line for view, line in self.studio.summaries()]
        missing = [str(root) for root in self.studio.places.roots if not root.is_dir()]
        return {"runs": runs, "roots": roots, "missing": missing}

    def stop(self, fields: dict[str, Any]) -> dict[str, Any]:
        view = self.studio.run(text_field(fields, "run"))
        held = holder_of(view.folder)
        if held is not None and held.process == view.asked_to_stop:  # a second signal would end it without saving
            raise StudioRefused("it was asked to stop already, and saves after the present iteration", 409)
        interrupt(view.folder)
        view.asked_to_stop = None if held is None else held.process
        return {"said": "asked to stop; it saves after the present iteration"}

    def resume(self, fields: dict[str, Any]) -> dict[str, Any]:
        view = self.studio.run(text_field(fields, "run"))
        _refuse_busy(view)
        last = _last_start(view.folder)
        if isinstance(ranks := last.get("ranks"), int) and ranks > 1:
            raise StudioRefused(
                f"{ranks} processes worked in this run; resume it under torchrun, as it was started", 409
            )
        words = ("distill", str(view.folder / "recipe.yaml"), "--out", str(view.folder))
        threads = last.get("OMP_NUM_THREADS")  # a run's last bits depend on their number
        further = {"OMP_NUM_THREADS": threads} if isinstance(threads, str) else {}
        log = view.folder / LOG
        view.job = self.studio.jobs.start(f"resume {view.name}", words, log=log, detached=True, further=further)
        return view.job.as_dict()

    def log(self, request: Request) -> dict[str, Any]:
        """The end of what processes printed that the studio started for this run."""
        folder = self.studio.run(asked(request, "run")).folder
        return {"tail": log_tail(folder / LOG) or log_tail(_log_beside(folder))}

    def job(self, request: Request) -> dict[str, Any]:
        return self.studio.jobs.job(asked(request, "job")).as_dict()

    def fork_plan(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What a fork would change, and its command."""
        fork = self._fork(fields)
        return {"changed": fork.changed, "command": command_line(fork.words), "out": str(fork.out)}

    def fork(self, fields: dict[str, Any]) -> dict[str, Any]:
        fork = self._fork(fields)
        job = self.studio.jobs.start(f"fork to {fork.out.name}", fork.words, log=_log_beside(fork.out), detached=True)
        self.studio.places.look_again()
        return job.as_dict()

    def _fork(self, fields: dict[str, Any]) -> "_Fork":
        view = self.studio.run(text_field(fields, "run"))
        name, which = text_field(fields, "name"), text_field(fields, "which", "last")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise StudioRefused("the fork's name is letters, digits, . _ and -, at most 100")
        if not re.fullmatch(r"last|best|\d{1,12}", which):
            raise StudioRefused("a fork begins at `last`, `best`, or an iteration that was saved")
        out = view.folder.parent / name
        if out.exists():
            raise StudioRefused(f"{out} is there already; give the fork another name", 409)
        changes = change_lines(fields)
        held = load_recipe(view.folder / "recipe.yaml")
        chosen = load_recipe(view.folder / "recipe.yaml", changes)
        return _Fork(view.folder, which, out, held, chosen, changes)


class _Fork:
    """A fork that may be started."""

    def __init__(self, run: Path, which: str, out: Path, held: Recipe, chosen: Recipe, changes: list[str]):
        self.out = out
        self.changed = recipe_diff(held, chosen)
        sets = [word for change in changes for word in ("--set", change)]
        begun = f"{run}@{which}"
        self.words = ("distill", str(run / "recipe.yaml"), "--out", str(out), "--fork", begun, *sets)


def change_lines(fields: dict[str, Any]) -> list[str]:
    """The lines `key=value` of an action.

    Raises:
        StudioRefused: it has something else.
    """
    given = fields.get("changes", [])
    if not isinstance(given, list) or len(given) > MOST_CHANGES or not all(isinstance(each, str) for each in given):
        raise StudioRefused("changes are lines of key=value")
    return [each.strip() for each in given if each.strip()]


def _refuse_busy(view: RunView) -> None:
    if view.job is not None and view.job.code is None:
        raise StudioRefused("a process was started for this run already, and works", 409)
    held = holder_of(view.folder)
    if held is not None and held.alive is not False:
        raise StudioRefused(f"process {held.process} on {held.machine} works in this run already", 409)


def _last_start(folder: Path) -> Mapping[str, Any]:
    try:
        last = json.loads((folder / "environment.json").read_text())["starts"][-1]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return {}
    return last if isinstance(last, dict) else {}


def _log_beside(folder: Path) -> Path:
    """Of a fork: its folder may hold nothing before it begins."""
    return folder.with_name(f"{folder.name}.studio.log")


def _routes(studio: Studio) -> list[Any]:
    screen = RunsScreen(studio)
    return [
        reading("/api/runs/list", screen.list),
        reading("/api/runs/log", screen.log),
        reading("/api/runs/job", screen.job),
        acting("/api/runs/stop", screen.stop),
        acting("/api/runs/resume", screen.resume),
        acting("/api/runs/fork-plan", screen.fork_plan),
        acting("/api/runs/fork", screen.fork),
    ]


SCREEN = Screen("runs", "Runs", _routes)
