"""Plan: what a recipe needs, told while its keys are changed. The forecast is `fewstep plan --json`, in a process of
its own, since it takes seconds and much memory. Forecasts lie in the user's cache: every studio of the user lists them.
"""

import re
import secrets
from typing import Any

from starlette.requests import Request

from fewstep.run.recipe import describe, flat_keys, load_recipe, shipped_recipes
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.command_words import command_line
from fewstep.run.studio.screens.runs import change_lines
from fewstep.run.studio.studio import Screen, Studio, acting, asked, reading, text_field
from fewstep.run.studio.task_records import TaskRecord, task_records
from fewstep.runtime.strict_json import load_json
from fewstep.runtime.user_cache import user_cache

# The keys that decide most of memory and time. All others can be given as lines.
KEYS = (
    "size",
    "run.iterations",
    "run.batch",
    "run.gradient_accumulation",
    "run.gradient_checkpointing",
    "run.base_weights",
    "run.blocks_to_swap",
    "run.sharding",
    "run.precision",
    "student.mode",
    "student.adapter.rank",
    "student.steps",
    "critic.mode",
    "critic.updates",
)
NUMBERS = {"gpu": "--gpu", "gpus": "--gpus", "per_machine": "--per-machine"}
KEPT = 40  # forecasts, ours: the oldest go
RATES = {"seconds": "--seconds-per-iteration", "tflops": "--tflops"}


class PlanScreen:
    def __init__(self, studio: Studio):
        self.studio, self.folder = studio, user_cache() / "studio" / "forecasts"

    def recipes(self, request: Request) -> dict[str, Any]:
        """What can be planned from: shipped recipes, and those of the runs."""
        return {"shipped": shipped_recipes(), "runs": list(self.studio.places.runs())}

    def keys(self, request: Request) -> dict[str, Any]:
        """The form's fields, with this recipe's values."""
        values = flat_keys(load_recipe(self._recipe(dict(request.query_params))).resolved())
        notes = {note.key: note for note in describe()}
        told = []
        for key in KEYS:
            note = notes.get(key)
            about = {"meaning": note.description, "type": note.type} if note else {"meaning": "", "type": ""}
            told.append({"key": key, "value": _as_text(values.get(key)), **about})
        return {"keys": told}

    def start(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Starts a forecast, and ends the one before it, whose answer nobody waits for."""
        recipe, changes = self._recipe(fields), change_lines(fields)
        load_recipe(recipe, changes)  # a mistake in a key is told at once
        words = ["plan", recipe, "--json"]
        for names, pattern in ((NUMBERS, r"[1-9]\d{0,5}"), (RATES, r"\d+(\.\d+)?")):
            for name, option in names.items():
                value = text_field(fields, name, "").strip()
                if value and not re.fullmatch(pattern, value):
                    raise StudioRefused(f"{option[2:].replace('-', ' ')} is a number")
                words += [option, value] if value else []
        if measured := text_field(fields, "measured", ""):
            words += ["--measured", str(self.studio.run(measured).folder)]
        words += [word for change in changes for word in ("--set", change)]
        if before := text_field(fields, "before", ""):
            self.studio.jobs.end_recorded(self._record(before))
        self._forget(words)
        record = TaskRecord(self.folder, secrets.token_hex(6))
        self.studio.jobs.start(" ".join(words[1:2] + changes), words, record=record, apart=True)
        return _told(record)

    def end(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Ends a forecast whose page was left."""
        self.studio.jobs.end_recorded(self._record(text_field(fields, "job")))
        return {}

    def result(self, request: Request) -> dict[str, Any]:
        """How a forecast is, and what it found. Exit code 2 with an answer says that it does not fit."""
        record = self._record(asked(request, "job"))
        told = _told(record)
        if told["code"] is None:
            return told
        try:
            found = load_json(record.result.read_bytes())
        except (OSError, ValueError):
            return told
        return {**told, "state": "done", "needs": found} if isinstance(found, dict) else told

    def known(self, request: Request) -> dict[str, Any]:
        """The forecasts of this user, the newest first, without what they found."""
        told = [_plain(record) for record in task_records(self.folder)]
        return {"forecasts": [each for each in told if each is not None]}

    def _record(self, name: str) -> TaskRecord:
        if not re.fullmatch(r"[0-9a-f]{12}", name):
            raise StudioRefused("there is no such forecast", 404)
        return TaskRecord(self.folder, name)

    def _forget(self, words: list[str]) -> None:
        """Removes earlier forecasts of the same command, and the oldest."""
        known = [(record, told) for record in task_records(self.folder) if (told := record.as_dict()) is not None]
        ended = [(record, told) for record, told in known if told["state"] != "working"]
        for number, (record, told) in enumerate(ended):
            if told["words"] == words or number >= KEPT - 1:
                record.remove()

    def _recipe(self, fields: dict[str, Any]) -> str:
        """A shipped recipe's name, or the file of a run's."""
        if run := text_field(fields, "run", ""):
            return str(self.studio.run(run).folder / "recipe.yaml")
        name = text_field(fields, "recipe", "pocket")
        if name not in shipped_recipes():
            raise StudioRefused(f"{name!r:.80} is no shipped recipe", 404)
        return name


def _told(record: TaskRecord) -> dict[str, Any]:
    told = _plain(record)
    if told is None:
        raise StudioRefused("there is no such forecast (any more)", 404)
    return told


def _plain(record: TaskRecord) -> dict[str, Any] | None:
    """A forecast as a user would ask for it. An answer that it does not fit is an answer."""
    told = record.as_dict()
    if told is None:
        return None
    state = "done" if told["state"] == "failed" and _has_answer(record) else told["state"]
    return {**told, "state": state, "command": command_line([word for word in told["words"] if word != "--json"])}


def _has_answer(record: TaskRecord) -> bool:
    try:
        return record.result.stat().st_size > 0
    except OSError:
        return False


def _as_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _routes(studio: Studio) -> list[Any]:
    screen = PlanScreen(studio)
    return [
        reading("/api/plan/recipes", screen.recipes),
        reading("/api/plan/keys", screen.keys),
        reading("/api/plan/result", screen.result),
        reading("/api/plan/known", screen.known),
        acting("/api/plan/start", screen.start),
        acting("/api/plan/end", screen.end),
    ]


SCREEN = Screen("plan", "Plan", _routes)
