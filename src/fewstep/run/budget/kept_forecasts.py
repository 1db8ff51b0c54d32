"""Forecasts that were made before. A rehearsal takes seconds to minutes, and its figures follow from what is hashed
here: the recipe's values, shapes, the model's config, and the code that is rehearsed.

They lie in the user's cache, a file of about a kilobyte each. A file that cannot be read is as none: then the iteration
is rehearsed. What cannot be written is kept for this process alone.
"""

import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

from fewstep.backbones.fake_model import ModelSize
from fewstep.run.budget.batch_shape import BatchShape
from fewstep.run.budget.op_counter import NetworkCall, Phase
from fewstep.run.budget.task_forecast import TaskForecast
from fewstep.run.recipe import Recipe
from fewstep.runtime import durable
from fewstep.runtime.errors import FewstepError
from fewstep.runtime.installed_code import code_hash
from fewstep.runtime.parallel import Ranks
from fewstep.runtime.user_cache import user_cache

FOLDER = "forecasts"
UNCOUNTED = ("name", "model", "data", "examine")  # of a recipe: they say where things are, and what else a run does

_code_hash = cache(code_hash)  # many forecasts of one process ask for it
_made_anew: ContextVar[set[str] | None] = ContextVar("made_anew", default=None)  # keys, while `forecasting_anew`
_unwritten: dict[Path, TaskForecast] = {}  # of this process, by the file that could not be written


def forecast_key(recipe: Recipe, size: ModelSize, ranks: Ranks, **more: Any) -> str:
    """A hash of all that a forecast follows from. more: JSON values beside recipe, model and ranks."""
    told = {
        "code": _code_hash(),
        "recipe": {key: value for key, value in recipe.resolved().items() if key not in UNCOUNTED},
        "family": [size.family.__qualname__, inspect.getsource(size.family)],  # of another package, perhaps
        "model": [dict(size.index), dict(size.config), None if size.scheduler is None else dict(size.scheduler)],
        "ranks": [ranks.rank, ranks.world, ranks.per_machine],
    }
    return hashlib.blake2b(json.dumps(told | more, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


@contextmanager
def forecasting_anew() -> Iterator[None]:
    """Inside, what was kept before is not read. It is made again, once, and kept instead."""
    token = _made_anew.set(set())
    try:
        yield
    finally:
        _made_anew.reset(token)


def read_forecast(key: str) -> TaskForecast | None:
    """The forecast that was kept under this key."""
    anew = _made_anew.get()
    if anew is not None and key not in anew:
        return None
    if _place(key) in _unwritten:
        return _unwritten[_place(key)]
    try:
        return _forecast_of(json.loads(_place(key).read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def keep_forecast(key: str, made: TaskForecast) -> None:
    """Keeps it for `read_forecast`: in the user's cache, or where that cannot be written in this process."""
    place, phases = _place(key), [{**vars(phase), "peak": dict(phase.peak)} for phase in made.phases]
    told = {**vars(made), "batch_shape": asdict(made.batch_shape), "phases": phases, "calls": dict(made.calls)}
    try:
        durable.make_folder(place.parent)
        durable.write_atomically(place, json.dumps(told))
    except (OSError, FewstepError):  # a cache that is full or read-only costs time alone
        _unwritten[place] = made
    if (anew := _made_anew.get()) is not None:
        anew.add(key)


def _place(key: str) -> Path:
    return user_cache() / FOLDER / f"{key}.json"


def _forecast_of(held: Mapping[str, Any]) -> TaskForecast:
    if held.keys() != {field.name for field in fields(TaskForecast)}:
        raise KeyError("fields of another version")
    shape = held["batch_shape"]
    shape = {**shape, "target": tuple(shape["target"]), "references": tuple(map(tuple, shape["references"]))}
    phases = tuple(map(_phase_of, held["phases"]))
    return TaskForecast(**{**held, "batch_shape": BatchShape(**shape), "phases": phases})


def _phase_of(held: Mapping[str, Any]) -> Phase:
    calls = tuple(NetworkCall(*call) for call in held["by_call"])
    return Phase(**{**held, "peak": Counter(held["peak"]), "by_call": calls})
