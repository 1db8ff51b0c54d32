"""The process that draws for the studio: `python -m fewstep.run.studio.draw_worker`.

It reads a request a line from standard input, and answers with an event a line on standard output: a cell that was
drawn, a column that could not be, and the end. It holds one model at a time, and ends when its input does. So models
leave memory with it, and a model that does not fit takes no studio along.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fewstep import __version__
from fewstep.backbones.families import adapter_path
from fewstep.data.pictures import open_picture
from fewstep.export.lora import Lora
from fewstep.flow.guidance import NO_GUIDANCE
from fewstep.lora.factors import Factors
from fewstep.lora.file import read_lora
from fewstep.pocket.known_worlds import WORLDS
from fewstep.pocket.world_of_model import world_of_model
from fewstep.roles.adapters import Adapters
from fewstep.roles.teacher_plan import BASE
from fewstep.run.folder import RunDir
from fewstep.run.student import student_weights
from fewstep.runtime import durable
from fewstep.runtime.device import free_unused
from fewstep.runtime.errors import FewstepError
from fewstep.runtime.task import Task
from fewstep.sample.images import open_on
from fewstep.sample.measured import MeasuredPicture, draw_measured, draw_on_grid
from fewstep.sample.origin import save_with_origin
from fewstep.sample.pictures import Model

MOST_ADAPTERS = 8  # over one base, until it is loaded anew
Event = dict[str, Any]
Asked = tuple[str, list[Image.Image], list[int]]  # prompt, references, seeds


class LoadedModel:
    """A model, with the adapters that were put over it: students of runs, specialised teachers. changed: its own
    weights are no longer the folder's."""

    def __init__(self, source: str, device: str):
        self.source, self.changed = source, False
        self.model = open_on(source, device)
        self._adapters: Adapters | None = None
        self._names: dict[str, str] = {}

    @property
    def is_full(self) -> bool:
        return len(self._names) >= MOST_ADAPTERS

    @property
    def is_plain(self) -> bool:
        return self._adapters is None and not self.changed

    def student(self, run: RunDir, iteration: int) -> str | None:
        """The name of the adapter of a kept student; None where its weights are the model's own now."""
        plan = run.recipe.student
        if plan.mode == "full":
            self.changed = True
            self.model.backbone.transformer.load_state_dict(dict(student_weights(run, str(iteration))[1]))
            return None

        def updates() -> Mapping[str, Factors]:
            return Lora.of(student_weights(run, str(iteration))[1], plan.adapter.alpha).updates

        return self._adapter(f"{run.folder}@{iteration}", updates, f"the student of iteration {iteration}")

    def teacher(self, source: str) -> str:
        """The name of the adapter of a specialised teacher."""
        return self._adapter(source, lambda: read_lora(adapter_path(source)), source)

    def _adapter(self, key: str, read: Callable[[], Mapping[str, Factors]], origin: str) -> str:
        if key not in self._names:
            if self._adapters is None:
                self._adapters = Adapters(self.model.backbone.transformer)
            self._adapters.load(f"drawn{len(self._names)}", read(), origin)
            self._names[key] = f"drawn{len(self._names)}"
        return self._names[key]

    @contextmanager
    def active(self, name: str | None) -> Iterator[None]:
        """The adapter of that name is on, or none."""
        if self._adapters is None:
            yield
        else:
            with self._adapters.active(name):
                yield


class DrawWorker:
    """Draws one request after another, and keeps the last model."""

    def __init__(self) -> None:
        self._loaded: LoadedModel | None = None

    def draw(self, request: Mapping[str, Any]) -> Iterator[Event]:
        """The events of a request: {columns, prompt, references, seeds, size, device, folder}.

        What is to be said of the prompt comes first, while it can still be changed.
        """
        if (said := _said_of_words(request)) is not None:
            yield {"note": said}
        for number, column in enumerate(request["columns"]):
            yield {"loading": number}
            try:
                for drawn in self._column(column, request):
                    path = Path(request["folder"]) / f"{number}-{drawn.seed}.png"
                    save_with_origin(drawn.picture, path, str(column["source"]), _facts(request, drawn))
                    yield {"column": number, "seed": drawn.seed, "file": path.name, **_cost(drawn)}
            except (FewstepError, OSError) as error:
                yield {"column": number, "error": str(error)}
            except torch.OutOfMemoryError:
                self._loaded = None
                yield {"column": number, "error": "this model does not fit into the memory of the device"}

    def _column(self, column: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[MeasuredPicture]:
        references = [open_picture(Path(path), "reference") for path in request["references"]]
        size = _size_of(request)
        asked = (str(request["prompt"]), references, list(request["seeds"]))
        device = str(request["device"])
        if column["iteration"] is not None:
            yield from self._kept(column, asked, size, device)
        elif column["teacher"] is not None:
            yield from self._taught(column, asked, size, device)
        else:
            loaded = self._model(str(column["source"]), device)
            with loaded.active(None):
                yield from draw_measured(loaded.model, *asked, steps=column["steps"], size=size)

    def _taught(
        self, column: Mapping[str, Any], asked: Asked, size: tuple[int, int] | None, device: str
    ) -> Iterator[MeasuredPicture]:
        """A teacher of a run, with the guidance that the run distils; or, of few steps, at the student's levels without
        guidance, as the run's own pages show it."""
        run = RunDir.open(Path(column["source"]))
        name, spec = str(column["teacher"]), run.recipe.teachers
        own = None if name == BASE else spec.named[name]
        loaded = self._model(_teacher_source(run, name), device)
        adapter = loaded.teacher(own.adapter) if own and own.adapter else None
        task: Task = "edit" if asked[1] else "t2i"
        plans = (spec.base if own is None else own).guidance or {}
        guidance = plans[task].guidance() if task in plans else loaded.model.guidance_for(task)
        guidance = NO_GUIDANCE if column["few"] else guidance
        teacher = Model(loaded.model.backbone, None, guidance, run.recipe.size)
        chosen = size or teacher.default_size(asked[1])
        grid = run.recipe.student.grid if column["few"] else teacher.sampling(column["steps"], guidance, chosen)[0]
        with loaded.active(adapter):
            yield from draw_on_grid(teacher, *asked, grid, guidance, chosen)

    def _kept(
        self, column: Mapping[str, Any], asked: Asked, size: tuple[int, int] | None, device: str
    ) -> Iterator[MeasuredPicture]:
        """A kept student of a run, over its base."""
        run = RunDir.open(Path(column["source"]))
        loaded = self._model(run.recipe.model, device, plain=run.recipe.student.mode == "full")
        name, grid = loaded.student(run, int(column["iteration"])), run.recipe.student.grid
        student = Model(loaded.model.backbone, len(grid), NO_GUIDANCE, run.recipe.size)
        chosen = size or student.default_size(asked[1])
        with loaded.active(name):
            yield from draw_on_grid(student, *asked, grid, NO_GUIDANCE, chosen)

    def _model(self, source: str, device: str, plain: bool = False) -> LoadedModel:
        """
        Args:
            plain: no adapter may be on it, since all of its weights will be set.
        """
        held = self._loaded
        if held is None or held.source != source or held.changed or held.is_full or (plain and not held.is_plain):
            where = None if held is None else held.model.backbone.device
            self._loaded = held = None  # before the next one is loaded
            if where is not None:
                free_unused(where)
            self._loaded = held = LoadedModel(source, device)
        return held


def _said_of_words(request: Mapping[str, Any]) -> str | None:
    """What a column's model does not know of the request, if it draws a pocket world."""
    worlds = dict.fromkeys(_world_of(column) for column in request["columns"])
    prompt, pictures, size = str(request["prompt"]), len(request["references"]), _size_of(request)
    found = [said for world in worlds if world for said in WORLDS[world].say(prompt, pictures, size)]
    return "\n".join(found) or None


def _size_of(request: Mapping[str, Any]) -> tuple[int, int] | None:
    asked = request["size"]
    return None if asked is None else (int(asked[0]), int(asked[1]))


def _world_of(column: Mapping[str, Any]) -> str | None:
    """None of a column that cannot be drawn: it says so itself when its turn comes."""
    try:
        return world_of_model(_source_of(column))
    except (FewstepError, OSError, KeyError):
        return None


def _source_of(column: Mapping[str, Any]) -> str:
    """The model that a column is drawn with: itself, or that of its run."""
    if column["iteration"] is not None:
        return RunDir.open(Path(column["source"])).recipe.model
    if column["teacher"] is not None:
        return _teacher_source(RunDir.open(Path(column["source"])), str(column["teacher"]))
    return str(column["source"])


def _teacher_source(run: RunDir, name: str) -> str:
    own = None if name == BASE else run.recipe.teachers.named[name]
    return (own and own.model) or run.recipe.model


def _cost(drawn: MeasuredPicture) -> Event:
    return {
        "nfe": drawn.nfe,
        "steps": drawn.steps,
        "seconds": round(drawn.seconds, 4),
        "size": list(drawn.size),
        "guidance": drawn.guidance,
    }


def _facts(request: Mapping[str, Any], drawn: MeasuredPicture) -> dict[str, str]:
    return {
        "Description": str(request["prompt"]),
        "Software": f"fewstep {__version__}",
        "Seed": str(drawn.seed),
        "Steps": str(drawn.steps),
        "NFE": str(drawn.nfe),
        "Seconds": f"{drawn.seconds:.4g}",
    }


def work() -> None:
    """Answers requests until the input ends. What libraries print goes where errors go, and not among the events."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = DrawWorker()
    for line in sys.stdin:
        request = json.loads(line)
        durable.make_folder(Path(request["folder"]))
        for event in worker.draw(request):
            told.write(json.dumps(event) + "\n")
            told.flush()
        told.write(json.dumps({"end": True}) + "\n")
        told.flush()


if __name__ == "__main__":
    work()
