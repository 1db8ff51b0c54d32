"""Bench: the case browser and the tables of `fewstep bench report`, over any galleries of the given folders.

The report is written by that command, in a process of its own, into the user's cache; here its data is read.
"""

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.gallery_places import FoundGallery, GalleryPlaces
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.studio import Screen, Studio, acting, asked, reading
from fewstep.run.studio.thumbnails import KINDS
from fewstep.runtime.strict_json import load_json
from fewstep.runtime.user_cache import user_cache

DATA, BEGINNING = "data.js", "window.fewstepReport = "
MOST_GALLERIES = 12
WATCHED = ("gallery.json", "manifest.jsonl", "verdicts", "metrics", "pairs")  # what a report is made of


class BenchScreen:
    def __init__(self, studio: Studio):
        self.studio = studio
        self.places = GalleryPlaces(studio.places.roots)
        self._made: dict[str, tuple[Path, ...]] = {}  # report -> its galleries

    def galleries(self, request: Request) -> dict[str, Any]:
        """Every gallery below the given folders: its name here, its system, its suite and who judged it."""
        return {"galleries": [_told(found) for found in self.places.galleries().values()]}

    def report(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Begins a report on galleries, the reference first. One that is there and newer than they are is taken."""
        names = fields.get("galleries")
        if not isinstance(names, list) or not names or len(names) > MOST_GALLERIES:
            raise StudioRefused(f"choose 1 to {MOST_GALLERIES} galleries")
        folders = tuple(self.places.folder(str(name)) for name in names)
        key = hashlib.blake2b(
            "\0".join(map(str, folders)).encode("utf-8", "surrogateescape"), digest_size=8
        ).hexdigest()
        self._made[key] = folders
        to = _place(key)
        if _newer(to / DATA, folders):
            return {"report": key, "job": None}
        words = ["bench", "report", *map(str, folders), "--to", str(to), "--link-pictures"]
        return {"report": key, "job": self.studio.jobs.start("report", words).as_dict()}

    def job(self, request: Request) -> dict[str, Any]:
        return self.studio.jobs.job(asked(request, "job")).as_dict()

    def data(self, request: Request) -> Any:
        """The report's own data."""
        text = (_place(self._key(asked(request, "report"))) / DATA).read_text(encoding="utf-8")
        held = load_json(text.removeprefix(BEGINNING).rstrip().removesuffix(";"))
        held.pop("copies", None)
        return held

    async def picture(self, request: Request) -> Response:
        def read() -> tuple[bytes, str]:
            path = self._picture(self._key(asked(request, "report")), asked(request, "path"))
            return path.read_bytes(), KINDS[path.suffix.lower()]

        data, kind = await anyio.to_thread.run_sync(read)
        return Response(data, headers={"Cache-Control": "private, max-age=300"}, media_type=kind)

    def _picture(self, key: str, path: str) -> Path:
        """A small picture of the report, or a whole one of a gallery that it is about."""
        to = _place(key)
        place = Path(os.path.normpath(to.resolve() / unquote(path)))
        for folder in (to, *self._made[key]):
            try:
                inside = place.relative_to(folder.resolve()).as_posix()
            except ValueError:
                continue
            found = file_inside(folder.resolve(), inside)
            if found.suffix.lower() in KINDS:
                return found
        raise StudioRefused("only pictures of these galleries are shown", 403)

    def _key(self, key: str) -> str:
        if key not in self._made:
            raise StudioRefused("this studio has made no such report; choose its galleries again", 404)
        return key


def _told(found: FoundGallery) -> dict[str, Any]:
    judges = sorted(path.stem for path in (found.folder / "verdicts").glob("*.jsonl"))
    return found.as_dict() | {"judges": judges, "fault": found.fault or None}


def _place(key: str) -> Path:
    return user_cache() / "studio" / "reports" / key


def _newer(data: Path, folders: tuple[Path, ...]) -> bool:
    try:
        made = data.stat().st_mtime
        parts = [part for folder in folders for name in WATCHED for part in (folder / name, *(folder / name).glob("*"))]
        return all(part.stat().st_mtime < made for part in parts if part.exists())
    except OSError:
        return False


def _routes(studio: Studio) -> list[Any]:
    screen = BenchScreen(studio)
    return [
        reading("/api/bench/galleries", screen.galleries),
        acting("/api/bench/report", screen.report),
        reading("/api/bench/job", screen.job),
        reading("/api/bench/data", screen.data),
        Route("/api/bench/picture", screen.picture),
    ]


SCREEN = Screen("bench", "Bench", _routes)
