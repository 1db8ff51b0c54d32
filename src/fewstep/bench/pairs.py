"""Two systems' pictures side by side before a judge, each pair in both orders.

A judge that likes what it is shown first gives itself away: the same pair in the other order gets the other answer.
Files: GALLERY_A/pairs/<system B>/<judge>.jsonl, a line for each order of each pair.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from fewstep.bench import protocol as protocols
from fewstep.bench import statistics
from fewstep.bench.attempts import Attempts, RequestKey
from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.judge_pass import (
    attempts_of,
    case_facts,
    read_pictures,
    references_of,
    rows_with_questions,
)
from fewstep.bench.judge_requests import (
    JudgeQuestion,
    JudgeRequest,
    LazyPicture,
    requests_of,
)
from fewstep.bench.statistics import Estimate
from fewstep.bench.suite import Suite
from fewstep.bench.suites import suite_of
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError, JudgeError

FOLDER = "pairs"
WON = {"A": "first", "B": "second", "tie": "tie"}


@dataclass(frozen=True)
class PairVerdict:
    """One answer about one pair in one order. first, second: systems as they were shown. won: "first", "second" or
    "tie" exactly where status is "ok": a pair that got no answer is no tie."""

    key: str
    case: str
    seed: int
    task: str
    category: str
    judge: str
    model: str | None
    protocol: str
    first: str
    second: str
    status: str
    repeat: int = 0
    won: str | None = None
    reasoning: str = ""
    why: str | None = None
    rung: str | None = None
    seconds: float | None = None
    tokens: Mapping[str, Any] = field(default_factory=dict)
    cost: float | None = None


@dataclass(frozen=True)
class PairJudgePass:
    """One judge's work on the pairs of two galleries. left_out: pictures that only one of the two has."""

    folder: Path
    judge: str
    systems: tuple[str, str]
    wanted: tuple[JudgeRequest, ...]
    left_out: int

    @property
    def attempts(self) -> Path:
        return attempts_of(self.folder, self.judge)

    @property
    def verdicts(self) -> Path:
        return self.folder / f"{self.judge}.jsonl"

    def write(self, attempts: Attempts) -> list[PairVerdict]:
        """The verdicts file, made of the attempts that stand."""
        found: list[PairVerdict] = []
        paid: set[RequestKey] = set()
        for request in self.wanted:
            held = attempts.result_of(request.request_key)
            if held is not None:
                free = {"cost": 0.0, "tokens": {}} if request.request_key in paid else {}
                found.append(_verdict({**held, **request.question.about, **free, "judge": self.judge}))
                paid.add(request.request_key)
        if found or self.verdicts.exists():
            durable.write_atomically(
                self.verdicts, "".join(json.dumps(asdict(v), ensure_ascii=False) + "\n" for v in found)
            )
        return found


def plan_pair_pass(a: Path, b: Path, endpoint: Endpoint, protocol: str | None) -> PairJudgePass:
    """What this judge is to be asked about two galleries of one suite; files go beside the first.

    Raises:
        GalleryError: not of one suite, of one name, or without a common picture. JudgeError, CaseError: as `sitting`.
    """
    galleries, suite = (open_gallery(a), open_gallery(b)), _common_suite(a, b)
    chosen = protocols.load_protocol(protocol or "pair-v1", suite.task)
    if chosen.kind != "pair":
        raise JudgeError(f"protocol {chosen.name} rates single pictures; pairs need one such as pair-v1")
    names = _names(galleries)
    others = {(str(row["case"]), int(row["seed"])): row for row in galleries[1]}
    asked = [(row, q) for row, q in rows_with_questions(galleries[0], suite) if (q.case.id, int(row["seed"])) in others]
    if not asked:
        raise GalleryError(f"{a} and {b} have no case and seed in common; draw both for the same suite")
    mine = read_pictures(galleries[0], [row for row, _ in asked])
    theirs = read_pictures(galleries[1], [others[str(row["case"]), int(row["seed"])] for row, _ in asked])
    seen: dict[Path, LazyPicture] = {}
    questions: list[JudgeQuestion] = []
    for (row, question), pair in zip(asked, zip(mine, theirs, strict=True), strict=True):
        told = case_facts(question, row)
        questions += _both_orders(chosen, question.case.prompt, references_of(question, seen), pair, names, told)
    left_out = len(galleries[0]) + len(galleries[1]) - 2 * len(asked)
    judge = endpoint.name if chosen.name == "pair-v1" else f"{endpoint.name}@{chosen.name}"
    return PairJudgePass(
        a / FOLDER / folder_name(names[1]), judge, names, tuple(requests_of(questions, endpoint)), left_out
    )


def _common_suite(a: Path, b: Path) -> Suite:
    one, other = suite_of(a), suite_of(b)
    if one.hash != other.hash:
        raise GalleryError(
            f"{a} answers suite {one.name} ({one.hash}) and {b} {other.name} ({other.hash}); "
            "only answers to one suite can be compared"
        )
    return one


def _both_orders(
    protocol: protocols.JudgeProtocol,
    prompt: str,
    references: tuple[LazyPicture, ...],
    pair: tuple[LazyPicture, LazyPicture],
    names: tuple[str, str],
    told: Mapping[str, Any],
) -> list[JudgeQuestion]:
    straight = JudgeQuestion(protocol, prompt, references, pair, {**told, "first": names[0], "second": names[1]})
    swapped = JudgeQuestion(protocol, prompt, references, pair[::-1], {**told, "first": names[1], "second": names[0]})
    return [straight, swapped]


def read_pairs(path: Path) -> list[PairVerdict]:
    """The lines of a pairs file."""
    return [_verdict(record) for record in durable.read_jsonl(path)]


@dataclass(frozen=True)
class PairFigures:
    """wins: of the first gallery's system, ties half, over pairs that have both orders. order_effect: wins of what was
    shown first minus wins of what was shown second, over all answers; 0 for a judge without that habit. agreement:
    share of pairs whose two orders say the same. half: pairs with one order only, left out of wins."""

    wins: Estimate
    ties: Estimate
    order_effect: Estimate
    agreement: Estimate
    pairs: int
    half: int


def pair_figures(verdicts: Sequence[PairVerdict], system: str) -> PairFigures:
    """What the answers add up to for `system`; intervals resample whole cases."""
    answered = [verdict for verdict in verdicts if verdict.status == "ok"]
    orders: dict[tuple[str, int, int], dict[str, float]] = {}
    for verdict in answered:
        mine = orders.setdefault((verdict.case, verdict.seed, verdict.repeat), {})
        mine[verdict.first] = _points(verdict, system)
    whole = {key: tuple(points.values()) for key, points in orders.items() if len(points) == 2}
    cases = [case for case, _, _ in whole]
    asked = [verdict.case for verdict in answered]
    return PairFigures(
        wins=statistics.mean([sum(points) / 2 for points in whole.values()], cases),
        ties=statistics.mean([float(verdict.won == "tie") for verdict in answered], asked),
        order_effect=statistics.mean([_first_minus_second(verdict) for verdict in answered], asked),
        agreement=statistics.mean([float(points[0] == points[1]) for points in whole.values()], cases),
        pairs=len(whole),
        half=len(orders) - len(whole),
    )


def _points(verdict: PairVerdict, system: str) -> float:
    if verdict.won == "tie":
        return 0.5
    return float((verdict.first if verdict.won == "first" else verdict.second) == system)


def _first_minus_second(verdict: PairVerdict) -> float:
    return {"first": 1.0, "tie": 0.0, "second": -1.0}[str(verdict.won)]


def _verdict(record: Mapping[str, Any]) -> PairVerdict:
    known = {f.name for f in fields(PairVerdict)}
    told = {key: value for key, value in record.items() if key in known}
    if record.get("winner") is not None:
        told["won"] = WON[str(record["winner"])]
    return PairVerdict(**{**told, "tokens": told.get("tokens") or {}})


def _names(galleries: tuple[Gallery, Gallery]) -> tuple[str, str]:
    """What the two systems are called: as their galleries say, or by their folders where both say the same."""
    said = [str(gallery.heading["system"]) for gallery in galleries]
    names = said if said[0] != said[1] else [gallery.folder.resolve().name for gallery in galleries]
    if folder_name(names[0]) == folder_name(names[1]):
        raise GalleryError(f"both galleries are called {names[0]}; rename one of the folders to tell them apart")
    return names[0], names[1]


def folder_name(name: str) -> str:
    """A system's name as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
