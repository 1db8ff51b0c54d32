"""A judge's pass over one gallery: the questions to ask, and the verdicts that follow from the attempts."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench import protocol as protocols
from fewstep.bench.attempts import Attempts, RequestKey
from fewstep.bench.gallery import Gallery, open_gallery, refuse_exchanged
from fewstep.bench.judge_requests import (
    JudgeQuestion,
    JudgeRequest,
    LazyPicture,
    picture_of_file,
    requests_of,
)
from fewstep.bench.suite import Question, Suite
from fewstep.bench.suites import suite_of
from fewstep.bench.verdict import (
    FOLDER,
    Verdict,
    verdict_of,
    verdicts_path,
    write_verdicts,
)
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime.errors import GalleryError

ATTEMPT_REMEDY = "remove that line, and the question is asked again"


@dataclass(frozen=True)
class JudgePass:
    """One judge's work on one gallery under one protocol: all its questions, asked or not."""

    folder: Path
    judge: str  # names the files: the endpoint's name, and the protocol if it is not the default one
    endpoint: Endpoint
    wanted: tuple[JudgeRequest, ...]

    @property
    def attempts(self) -> Path:
        return attempts_of(self.folder / FOLDER, self.judge)

    @property
    def verdicts(self) -> Path:
        return verdicts_path(self.folder, self.judge)

    def write(self, attempts: Attempts) -> list[Verdict]:
        """Writes the verdicts file from the attempts that count. One answer may serve several cases with the same
        picture and prompt; the first of them has its cost."""
        verdicts: list[Verdict] = []
        paid: set[RequestKey] = set()
        for request in self.wanted:
            held = attempts.result_of(request.request_key)
            if held is not None:
                free = {"cost": 0.0, "tokens": {}} if request.request_key in paid else {}
                told = {**held, **request.question.about, **free, "judge": self.judge}
                verdicts.append(verdict_of(told, _place_of(self.attempts, request), ATTEMPT_REMEDY))
                paid.add(request.request_key)
        if verdicts or self.verdicts.exists():
            write_verdicts(self.folder, self.judge, verdicts)
        return verdicts


def first_pictures(wanted: Sequence[JudgeRequest], limit: int | None) -> Sequence[JudgeRequest]:
    """Questions about the first `limit` pictures (or pairs) of a fixed shuffle, which is the same for every system and
    judge. All without a limit."""
    if limit is None:
        return wanted
    chosen = set(sorted({_place(request) for request in wanted})[:limit])
    return [request for request in wanted if _place(request) in chosen]


def _place_of(attempts: Path, request: JudgeRequest) -> str:
    return f"{attempts}: {request.question.about['case']}, seed {request.question.about['seed']}"


def _place(request: JudgeRequest) -> str:
    """A picture's position in the shuffle."""
    told = f"{request.question.about['case']}/{request.question.about['seed']}"
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def attempts_of(folder: Path, judge: str) -> Path:
    return folder / f"{judge}.attempts.jsonl"


def plan_judge_pass(gallery: Path, endpoint: Endpoint, protocol: str | None) -> JudgePass:
    """The questions for this judge about a gallery. Every picture is read, so a torn one is found early.

    Raises:
        GalleryError, SuiteError: no gallery, or not the suite it was made for.
        CaseError: a torn picture.
        JudgeError: a protocol that is unknown or for another task.
    """
    opened, suite = open_gallery(gallery), suite_of(gallery)
    default = protocols.default_protocol(suite.task)
    chosen = protocols.load_protocol(protocol or default, suite.task)
    questions = list(_questions(opened, suite, chosen))
    if not questions:
        raise GalleryError(f"{gallery} has no pictures to judge; draw them first")
    judge = endpoint.name if chosen.name == default else f"{endpoint.name}@{chosen.name}"
    return JudgePass(gallery, judge, endpoint, tuple(requests_of(questions, endpoint)))


def rows_with_questions(gallery: Gallery, suite: Suite) -> Iterator[tuple[dict[str, Any], Question]]:
    """Each picture's row with the question it answers.

    Raises:
        GalleryError: a row answers no question of the suite.
    """
    questions = {question.case.id: question for question in suite.questions}
    for row in gallery:
        question = questions.get(str(row["case"]))
        if question is None:
            raise GalleryError(
                f"{gallery.folder} has a picture of case {row['case']!r}, which suite {suite.name} does not hold; "
                "remove its line from the manifest, or make the gallery again"
            )
        yield row, question


def references_of(question: Question, seen: dict[Path, LazyPicture]) -> tuple[LazyPicture, ...]:
    """The question's source pictures. `seen` caches those that several pictures share."""
    for path in question.case.references:
        if path not in seen:
            seen[path] = picture_of_file(path, question.case.where)
    return tuple(seen[path] for path in question.case.references)


def read_pictures(gallery: Gallery, rows: Sequence[dict[str, Any]]) -> list[LazyPicture]:
    """The rows' pictures, read by several threads: decoding a PNG releases the interpreter's lock.

    Raises:
        CaseError: a torn picture.
        GalleryError: a picture that is not the one it is named after.
    """

    def one(row: dict[str, Any]) -> LazyPicture:
        case, seed = str(row["case"]), int(row["seed"])
        picture = picture_of_file(gallery.path(case, seed), f"{gallery.folder}: {case}, seed {seed}")
        refuse_exchanged(gallery.path(case, seed), picture.hash)
        return picture

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, rows))


def case_facts(question: Question, row: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that describes the case."""
    case = question.case
    return {"case": case.id, "seed": int(row["seed"]), "task": case.task, "category": case.category}


def _questions(gallery: Gallery, suite: Suite, protocol: protocols.JudgeProtocol) -> Iterator[JudgeQuestion]:
    seen: dict[Path, LazyPicture] = {}
    asked = list(rows_with_questions(gallery, suite))
    for (row, question), picture in zip(asked, read_pictures(gallery, [row for row, _ in asked]), strict=True):
        references = references_of(question, seen)
        yield JudgeQuestion(protocol, question.case.prompt, references, (picture,), case_facts(question, row))
