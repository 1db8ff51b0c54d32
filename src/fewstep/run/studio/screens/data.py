"""Data: what a run learns from. Cases with their pictures, lines that cannot be used, shares by category, cases that
say the same, and words that they share with what the run is examined with.

Read are files inside the given folders alone: the case files that the recipe names, what was drawn or unpacked into the
store's folder beside the run, and archives as they are. For others the page says which folder to give.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fewstep.data.cases import Case
from fewstep.data.overlap import overlaps, suite_prompts
from fewstep.data.sources import entries
from fewstep.run.self_exam.exam_cases import frozen_set
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.archive_cases import archives_folder, first_entries
from fewstep.run.studio.case_files import CaseFile, case_files, inside_roots
from fewstep.run.studio.places import named_below
from fewstep.run.studio.run_view import RunView
from fewstep.run.studio.studio import Screen, Studio, asked, reading
from fewstep.run.studio.thumbnails import KINDS, small_copy
from fewstep.runtime.errors import FewstepError

PAGE = 24
MOST_TOLD = 200  # bad lines, duplicates and overlaps that are named
KEPT = 8  # files whose cases stay in memory
FROZEN = "the run's frozen set"


@dataclass(frozen=True)
class ReadCases:
    """part: what was read of the file, in words, where that is not all."""

    stamp: tuple[int, int]
    cases: tuple[Case, ...]
    bad: tuple[str, ...]
    part: str = ""


class DataScreen:
    def __init__(self, studio: Studio):
        self.studio = studio
        self._read: dict[Path, ReadCases] = {}
        self._lock = Lock()

    def files(self, request: Request) -> dict[str, Any]:
        """The case files of a run, and what they can be compared with."""
        files = self._files(self.studio.run(asked(request, "run")))
        told = [{"label": each.label, "task": each.task, "why": each.why, "note": each.note} for each in files]
        return {"files": told, "suites": [FROZEN, *self._suites()]}

    def summary(self, request: Request) -> dict[str, Any]:
        """Counts, bad lines and duplicates of one file."""
        held = self._cases(request)
        counts = Counter((case.task, case.category) for case in held.cases)
        same = _duplicates(held.cases)
        return {
            "cases": len(held.cases),
            "part": held.part,
            "counts": [{"task": t, "category": c, "count": n} for (t, c), n in sorted(counts.items())],
            "bad": held.bad[:MOST_TOLD],
            "bad_count": len(held.bad),
            "duplicates": same[:MOST_TOLD],
            "duplicate_count": len(same),
        }

    def overlap(self, request: Request) -> dict[str, Any]:
        """Cases that share words with a suite."""
        held, name = self._cases(request), asked(request, "suite")
        found = overlaps(held.cases, self._prompts(self.studio.run(asked(request, "run")), name))
        told = [{"where": Path(each.where).name, "suite": each.suite, "words": each.words} for each in found]
        return {"count": len(told), "shown": told[:MOST_TOLD]}

    def cases(self, request: Request) -> dict[str, Any]:
        """A page of cases. Fields: q (words), category, page."""
        held, given = self._cases(request), request.query_params
        words, category = given.get("q", "").lower().split(), given.get("category", "")
        found = [
            (number, case)
            for number, case in enumerate(held.cases)
            if (not category or case.category == category)
            and all(word in f"{case.id} {case.prompt}".lower() for word in words)
        ]
        page = min(_number(given.get("page", "0")), max(0, (len(found) - 1) // PAGE))
        shown = [self._told(number, case) for number, case in found[page * PAGE : (page + 1) * PAGE]]
        return {"count": len(found), "page": page, "pages": -(-len(found) // PAGE), "cases": shown}

    async def picture(self, request: Request) -> Response:
        """One picture of a case, by numbers: the browser never names a path."""

        def read() -> tuple[bytes, str]:
            cases, which = self._cases(request).cases, asked(request, "which")
            number = _number(asked(request, "case"))
            if number >= len(cases):
                raise StudioRefused("the file has changed; load the page again", 404)
            path = _pictures(cases[number]).get(which)
            place = None if path is None else self._inside(path)
            if place is None or place.suffix.lower() not in KINDS:
                raise StudioRefused("this picture is not in the given folders", 403)
            side = request.query_params.get("side")
            shown = place if side is None else small_copy(place, _number(side))
            return shown.read_bytes(), KINDS[shown.suffix.lower()]

        data, kind = await anyio.to_thread.run_sync(read)
        return Response(data, headers={"Cache-Control": "private, max-age=300"}, media_type=kind)

    # ---- files

    def _files(self, view: RunView) -> list[CaseFile]:
        return case_files(view, self.studio.places.roots)

    def _inside(self, path: Path) -> Path | None:
        """The path, if it lies in a given folder, or was taken out of an archive in one."""
        return inside_roots(path, (*self.studio.places.roots, archives_folder()))

    def _cases(self, request: Request) -> ReadCases:
        files = self._files(self.studio.run(asked(request, "run")))
        number = _number(asked(request, "file"))
        if number >= len(files):
            raise StudioRefused("the recipe names no such file (any more)", 404)
        chosen = files[number]
        if chosen.path is None:
            raise StudioRefused(f"{chosen.label}: {chosen.why}", 404)
        told = chosen.path.stat()
        stamp = told.st_mtime_ns, told.st_size
        with self._lock:
            held = self._read.pop(chosen.path, None)
            if held is None or held.stamp != stamp:
                held = _read_cases(chosen, stamp)
            self._read[chosen.path] = held  # the last used stays longest
            while len(self._read) > KEPT:
                self._read.pop(next(iter(self._read)))
            return held

    def _suites(self) -> dict[str, Path]:
        return named_below(self.studio.places.roots, lambda folder: (folder / "suite.json").is_file())

    def _prompts(self, view: RunView, name: str) -> list[tuple[str, str]]:
        if name != FROZEN:
            suites = self._suites()
            if name not in suites:
                raise StudioRefused(f"there is no suite {name!r:.120} here (any more)", 404)
            return suite_prompts(suites[name])
        exam = frozen_set(view.folder)
        if exam is None:
            raise StudioRefused("this run has no frozen set: it does not examine itself", 404)
        return [(one.case.id, one.case.prompt) for one in exam.cases]

    def _told(self, number: int, case: Case) -> dict[str, Any]:
        named = _pictures(case)
        shown = [which for which, path in named.items() if self._inside(path) is not None]
        size = None if case.height is None else f"{case.height} x {case.width}"
        return {
            "number": number,
            "id": case.id,
            "task": case.task,
            "category": case.category,
            "prompt": case.prompt,
            "teacher_prompt": case.teacher_prompt,
            "size": size,
            "where": f"{Path(case.where).name}",
            "pictures": shown,
            "hidden": len(named) - len(shown),
        }


def _read_cases(file: CaseFile, stamp: tuple[int, int]) -> ReadCases:
    assert file.path is not None, file.label
    cases, bad, part = [], [], ""
    try:
        for entry in first_entries(file.path) if file.is_archive else entries(file.path):
            if isinstance(entry, Case):
                cases.append(entry)
            elif isinstance(entry, str):
                part = entry
            else:
                bad.append(str(entry))
    except FewstepError as error:
        bad.append(str(error))
    return ReadCases(stamp, tuple(cases), tuple(bad), part)


def _pictures(case: Case) -> Mapping[str, Path]:
    named = {"source" if len(case.references) == 1 else f"source {i}": p for i, p in enumerate(case.references, 1)}
    return named if case.target is None else {**named, "target": case.target}


def _duplicates(cases: Sequence[Case]) -> list[list[str]]:
    """Groups of cases with the same words about the same files. `fewstep cases check` compares the pictures
    themselves."""
    places: dict[tuple[object, ...], list[str]] = {}
    for case in cases:
        prompt = " ".join(unicodedata.normalize("NFKC", case.prompt).casefold().split())
        places.setdefault((prompt, *case.references), []).append(f"{case.id}: {case.prompt}")
    return [told for told in places.values() if len(told) > 1]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 10**9


def _routes(studio: Studio) -> list[Any]:
    screen = DataScreen(studio)
    return [
        reading("/api/data/files", screen.files),
        reading("/api/data/summary", screen.summary),
        reading("/api/data/overlap", screen.overlap),
        reading("/api/data/cases", screen.cases),
        Route("/api/data/picture", screen.picture),
    ]


SCREEN = Screen("data", "Data", _routes)
