"""Blind votes over the pairs of two galleries (bench/votes.py).

The page is told nothing of whose pictures it shows: pictures are asked for by the number of their pair and their side.
A vote is on the disk before the next pair is sent, so a studio that is killed loses none.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fewstep.bench.pair_verdict import PairVerdict
from fewstep.bench.vote_result import vote_result
from fewstep.bench.votes import Ballot, VoteAnswer, VotePair, open_ballot
from fewstep.run.studio.answers import StudioRefused
from fewstep.run.studio.gallery_places import GalleryPlaces
from fewstep.run.studio.places import file_inside
from fewstep.run.studio.studio import Screen, Studio, acting, asked, number_of, reading, text_field
from fewstep.run.studio.thumbnails import KINDS

ANSWERS: dict[str, VoteAnswer] = {"left": "left", "right": "right", "tie": "tie"}
MOST_BALLOTS = 16  # kept open: each holds the rows of two galleries
LONG_SECONDS = 3600.0  # more says only that somebody went away


@dataclass(frozen=True)
class OpenBallot:
    """stamp: of both galleries' files; a gallery that grew is read again."""

    ballot: Ballot
    stamp: tuple[float, ...]


class VoteScreen:
    def __init__(self, studio: Studio):
        self.places = GalleryPlaces(studio.places.roots)
        self._open: dict[tuple[Path, Path, str], OpenBallot] = {}
        self._lock = Lock()

    def galleries(self, request: Request) -> dict[str, Any]:
        return {"galleries": [found.as_dict() for found in self.places.galleries().values()]}

    def state(self, request: Request) -> dict[str, Any]:
        """/api/vote/state?a=GALLERY&b=GALLERY&voter=NAME"""
        return self._state(self._ballot({name: asked(request, name) for name in ("a", "b", "voter")}))

    def vote(self, fields: dict[str, Any]) -> dict[str, Any]:
        ballot = self._ballot(fields)
        answer = ANSWERS.get(text_field(fields, "answer"))
        if answer is None:
            raise StudioRefused("a vote is left, right or tie")
        ballot.vote(_pair(ballot, fields.get("pair")), answer, _seconds(fields.get("seconds")))
        return self._state(ballot)

    def undo(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Takes the last vote back; its pair is the next one again."""
        ballot = self._ballot(fields)
        if ballot.take_back() is None:
            raise StudioRefused("there is no vote to take back", 409)
        return self._state(ballot)

    def result(self, request: Request) -> dict[str, Any]:
        ballot = self._ballot({name: asked(request, name) for name in ("a", "b", "voter")})
        votes = ballot.votes()
        told = vote_result(ballot, votes).as_dict()
        return told | {"voter": ballot.judge, "file": str(ballot.file), **_progress(ballot, votes)}

    def picture(self, request: Request) -> tuple[bytes, str]:
        """/api/vote/picture?a&b&voter&pair=3&side=left, or side=0 for the first reference of an edit."""
        ballot = self._ballot({name: asked(request, name) for name in ("a", "b", "voter")})
        pair, side = _pair(ballot, asked(request, "pair")), asked(request, "side")
        references = pair.question.case.references
        if side in ("left", "right"):
            folder = ballot.galleries[pair.left if side == "left" else pair.right].folder
            path = file_inside(
                folder, ballot.picture(pair, "left" if side == "left" else "right").relative_to(folder).as_posix()
            )
        elif 0 <= number_of(side) < len(references):
            path = references[number_of(side)]
        else:
            raise StudioRefused("a side is left, right, or the number of a reference")
        if path.is_symlink() or path.suffix.lower() not in KINDS:
            raise StudioRefused("only pictures are shown, and no link is followed", 403)
        return path.read_bytes(), KINDS[path.suffix.lower()]

    def _ballot(self, fields: dict[str, Any]) -> Ballot:
        a, b = (self.places.folder(text_field(fields, name)) for name in ("a", "b"))
        voter = text_field(fields, "voter")
        stamp = tuple(path.stat().st_mtime for folder in (a, b) for path in sorted(folder.glob("manifest*.jsonl")))
        with self._lock:
            held = self._open.get((a, b, voter))
            if held is None or held.stamp != stamp:
                if len(self._open) >= MOST_BALLOTS:
                    self._open.pop(next(iter(self._open)))
                held = self._open[a, b, voter] = OpenBallot(open_ballot(a, b, voter), stamp)
            return held.ballot

    def _state(self, ballot: Ballot) -> dict[str, Any]:
        votes = ballot.votes()
        pair = ballot.next_pair(votes)
        suite = {"name": ballot.suite.name, "version": ballot.suite.version}
        told = {"systems": ballot.systems, "suite": suite, "voter": ballot.judge, **_progress(ballot, votes)}
        return told | {"pair": None if pair is None else _shown(ballot, pair), "upcoming": _upcoming(ballot, votes)}


def _progress(ballot: Ballot, votes: list[PairVerdict]) -> dict[str, int]:
    return {"voted": len(votes), "pairs": len(ballot.pairs)}


def _shown(ballot: Ballot, pair: VotePair) -> dict[str, Any]:
    """What a voter may know of a pair."""
    case = pair.question.case
    return {
        "number": ballot.pairs.index(pair),
        "prompt": case.prompt,
        "task": case.task,
        "references": len(case.references),
    }


def _upcoming(ballot: Ballot, votes: list[PairVerdict]) -> list[int]:
    """The pair after this one, whose pictures the page may fetch meanwhile."""
    voted = {(vote.case, vote.seed) for vote in votes}
    waiting = [number for number, pair in enumerate(ballot.pairs) if pair.key not in voted]
    return waiting[1:2]


def _pair(ballot: Ballot, number: Any) -> VotePair:
    place = number_of(str(number))
    if not 0 <= place < len(ballot.pairs):
        raise StudioRefused("there is no such pair in these galleries (any more)", 404)
    return ballot.pairs[place]


def _seconds(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONG_SECONDS:
        return round(float(value), 1)
    return None


def _routes(studio: Studio) -> list[Route]:
    screen = VoteScreen(studio)

    async def picture(request: Request) -> Response:
        data, kind = await anyio.to_thread.run_sync(screen.picture, request)
        return Response(data, headers={"Cache-Control": "no-store"}, media_type=kind)

    return [
        reading("/api/vote/galleries", screen.galleries),
        reading("/api/vote/state", screen.state),
        reading("/api/vote/result", screen.result),
        acting("/api/vote/vote", screen.vote),
        acting("/api/vote/undo", screen.undo),
        Route("/api/vote/picture", picture),
    ]


SCREEN = Screen("vote", "Vote", _routes)
