"""Prompts and photos, drawn by several models side by side from the same noise."""

from threading import Lock
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fewstep.run.studio.answers import StudioRefused, json_answer
from fewstep.run.studio.command_words import command_line
from fewstep.run.studio.draw_models import draw_columns
from fewstep.run.studio.draw_queue import UNFINISHED, DrawQueue
from fewstep.run.studio.holder import holder_of
from fewstep.run.studio.my_suite import MySuite
from fewstep.run.studio.photos import keep_photo, photo_bytes, photo_path
from fewstep.run.studio.shift_picture import shift_map
from fewstep.run.studio.studio import Screen, Studio, acting, asked, reading, text_field
from fewstep.run.studio.taken_case import taken_case
from fewstep.runtime.user_cache import user_cache
from fewstep.sample.asked import refuse_long_prompts, refuse_seeds, size_of

SHOWN = 30  # drawings of the history that a page gets
MOST_COLUMNS, MOST_SEEDS, MOST_REFERENCES = 8, 16, 10


class PlaygroundScreen:
    def __init__(self, studio: Studio):
        self.studio = studio
        self.queue = DrawQueue(user_cache() / "studio", self.training)
        self.suite, self._keeping = MySuite(studio.places.roots[0]), Lock()
        studio.at_end.append(self.queue.end)

    def training(self) -> list[str]:
        """Runs that a process of this machine works in."""
        held = ((view.name, holder_of(view.folder)) for view in self.studio.runs())
        return [name for name, holder in held if holder is not None and holder.alive]

    def models(self, request: Request) -> dict[str, Any]:
        return {"columns": [column.as_dict() for column in draw_columns(self.studio).values()]}

    def state(self, request: Request) -> dict[str, Any]:
        drawings = self.queue.drawings()
        living = [drawing for drawing in drawings if drawing.state in UNFINISHED]
        shown = list({drawing.id: drawing for drawing in (*living, *drawings[:SHOWN])}.values())
        told = [drawing.__dict__ | {"living": drawing in living} for drawing in shown]
        return {
            "drawings": told,
            "training": self.training(),
            "loaded": self.queue.is_loaded,
            "kept": self.suite.count(),
        }

    def take(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A case of a run, for the form. Its pictures are kept among the photos."""
        number, moment = fields.get("case"), fields.get("moment", 0)
        if not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in (number, moment)):
            raise StudioRefused("a case and an iteration are whole numbers")
        view, group = self.studio.run(text_field(fields, "run")), text_field(fields, "group")
        known = list(draw_columns(self.studio))
        return taken_case(view, group, int(fields["case"]), int(moment), self.queue.photos, known, MOST_COLUMNS)

    def draw(self, fields: dict[str, Any]) -> dict[str, Any]:
        prompt = text_field(fields, "prompt").strip()
        if not prompt:
            raise StudioRefused("write what is to be drawn")
        refuse_long_prompts([prompt])
        seeds, size = _seeds(fields), text_field(fields, "size", "").strip()
        wanted, known = _texts(fields, "columns", MOST_COLUMNS), draw_columns(self.studio)
        if not wanted:
            raise StudioRefused("choose a model at least")
        if gone := [key for key in wanted if key not in known]:
            raise StudioRefused(f"{gone[0]:.200} is not here (any more); load the page again", 404)
        references = _texts(fields, "references", MOST_REFERENCES)
        for name in references:
            photo_path(self.queue.photos, name)
        drawing = self.queue.ask(
            prompt,
            references,
            seeds,
            size_of(size.replace(" ", "")) if size else None,
            [known[key] for key in wanted],
            fields.get("allowed") is True,
        )
        return {"id": drawing.id}

    def cancel(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.queue.cancel(text_field(fields, "drawing"))
        return {}

    def forget(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.queue.forget(text_field(fields, "drawing"))
        return {}

    def shift(self, request: Request) -> dict[str, Any]:
        """Where each part of picture `b` of a drawing stands against `a`; see `shift_map`."""
        a, b = (self.queue.picture(asked(request, "drawing"), asked(request, name)) for name in ("a", "b"))
        return shift_map(a.parent, a.name, b.name)

    def keep(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Adds a drawing's prompt and photos to the reader's suite."""
        drawing = self.queue.drawing(text_field(fields, "drawing"))
        references = [self.queue.picture(drawing.id, f"source-{i}") for i in range(len(drawing.references))]
        with self._keeping:  # two at once would both find it missing, and a case twice is a suite that is refused
            count = self.suite.keep(drawing.prompt, references, drawing.seeds[0], drawing.size)
        return {"said": f"added; your suite has {count:,} case{'s' if count > 1 else ''}"}

    def freeze(self, fields: dict[str, Any]) -> dict[str, Any]:
        with self._keeping:
            folders = self.suite.freeze()
        lines = [command_line(("generate", "MODEL", "--suite", str(each), "--to", "GALLERY")) for each in folders]
        return {"said": "\n".join(["made; draw galleries of it, and vote:", *lines])}

    def unload(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.queue.unload()
        return {"said": "the models have left memory"}


def _seeds(fields: dict[str, Any]) -> list[int]:
    first, count = fields.get("seed", 0), fields.get("count", 1)
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (first, count))
    if not whole or not 1 <= count <= MOST_SEEDS:
        raise StudioRefused(f"a seed is a whole number, and 1 to {MOST_SEEDS} are drawn at a time")
    refuse_seeds([first, first + count - 1])
    return list(range(first, first + count))


def _texts(fields: dict[str, Any], name: str, most: int) -> list[str]:
    held = fields.get(name, [])
    if not isinstance(held, list) or len(held) > most or not all(isinstance(each, str) for each in held):
        raise StudioRefused(f"{name} are at most {most} texts")
    return list(dict.fromkeys(held))


def _routes(studio: Studio) -> list[Route]:
    screen = PlaygroundScreen(studio)

    async def photo(request: Request) -> Response:
        data = await photo_bytes(request)
        name, size = await anyio.to_thread.run_sync(keep_photo, screen.queue.photos, data)
        return json_answer({"name": name, "size": size})

    async def picture(request: Request) -> Response:
        """?drawing=ID&cell=COLUMN-SEED, or ?photo=NAME"""

        def chosen() -> bytes:
            if "photo" in request.query_params:
                return photo_path(screen.queue.photos, asked(request, "photo")).read_bytes()
            return screen.queue.picture(asked(request, "drawing"), asked(request, "cell")).read_bytes()

        data = await anyio.to_thread.run_sync(chosen)
        return Response(data, headers={"Cache-Control": "private, max-age=86400"}, media_type="image/png")

    return [
        reading("/api/playground/models", screen.models),
        reading("/api/playground/state", screen.state),
        reading("/api/playground/shift", screen.shift),
        acting("/api/playground/take", screen.take),
        acting("/api/playground/draw", screen.draw),
        acting("/api/playground/cancel", screen.cancel),
        acting("/api/playground/forget", screen.forget),
        acting("/api/playground/unload", screen.unload),
        acting("/api/playground/keep", screen.keep),
        acting("/api/playground/freeze", screen.freeze),
        Route("/api/playground/photo", photo, methods=["POST"]),
        Route("/api/playground/picture", picture),
    ]


SCREEN = Screen("playground", "Playground", _routes)
