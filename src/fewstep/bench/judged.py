"""A gallery before its judge: what is to be asked, and the verdicts that the attempts add up to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.bench import protocol as protocols
from fewstep.bench.asking import Asking, Brief, Picture, askings, of_file
from fewstep.bench.attempts import Attempts
from fewstep.bench.gallery import Gallery, open_gallery
from fewstep.bench.suites import Question, Suite, suite_of
from fewstep.bench.verdict import FOLDER, Verdict, path_of, verdict_of, write_verdicts
from fewstep.endpoint.declaration import Endpoint
from fewstep.errors import GalleryError


@dataclass(frozen=True)
class Sitting:
    """One judge's work on one gallery under one protocol: every question of it, asked or not."""

    folder: Path
    judge: str  # names the files: the endpoint's name, and the protocol where it is not the usual one
    endpoint: Endpoint
    wanted: tuple[Asking, ...]

    @property
    def attempts(self) -> Path:
        return attempts_of(self.folder / FOLDER, self.judge)

    @property
    def verdicts(self) -> Path:
        return path_of(self.folder, self.judge)

    def some(self, limit: int | None) -> Sequence[Asking]:
        """The first `limit` pictures of a fixed shuffle, so that a part has all categories; all without a limit."""
        if limit is None:
            return self.wanted
        marks = sorted({asking.key for asking in self.wanted})[:limit]
        return [asking for asking in self.wanted if asking.key in set(marks)]

    def write(self, attempts: Attempts) -> list[Verdict]:
        """The verdicts file, made of the attempts that stand."""
        verdicts = [
            verdict_of({**held, **asking.brief.about}, str(self.attempts))
            for asking in self.wanted
            if (held := attempts.standing(asking.mark)) is not None
        ]
        write_verdicts(self.folder, self.judge, verdicts)
        return verdicts


def attempts_of(folder: Path, judge: str) -> Path:
    return folder / f"{judge}.attempts.jsonl"


def sitting(gallery: Path, endpoint: Endpoint, protocol: str | None) -> Sitting:
    """What this judge is to be asked about a gallery. Every picture is read, so that nothing torn is found late.

    Raises:
        GalleryError, SuiteError: no gallery, or not the suite it was made for. CaseError: a torn picture.
        JudgeError: a protocol that is unknown or for another task.
    """
    opened, suite = open_gallery(gallery), suite_of(gallery)
    usual = protocols.usual(suite.task)
    chosen = protocols.load(protocol or usual, suite.task)
    briefs = list(_briefs(opened, suite, chosen))
    if not briefs:
        raise GalleryError(f"{gallery} has no pictures to judge; draw them first")
    judge = endpoint.name if chosen.name == usual else f"{endpoint.name}@{chosen.name}"
    return Sitting(gallery, judge, endpoint, tuple(askings(briefs, endpoint)))


def asked_about(gallery: Gallery, suite: Suite) -> Iterator[tuple[dict[str, Any], Question]]:
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


def references_of(question: Question, seen: dict[Path, Picture]) -> tuple[Picture, ...]:
    """The question's source pictures; `seen` keeps those that several pictures share."""
    for path in question.case.references:
        if path not in seen:
            seen[path] = of_file(path, question.case.where)
    return tuple(seen[path] for path in question.case.references)


def _briefs(gallery: Gallery, suite: Suite, protocol: protocols.Protocol) -> Iterator[Brief]:
    seen: dict[Path, Picture] = {}
    for row, question in asked_about(gallery, suite):
        case, seed = question.case, int(row["seed"])
        picture = of_file(gallery.path(case.id, seed), f"{gallery.folder}: {case.id}, seed {seed}")
        about = {"case": case.id, "seed": seed, "task": case.task, "category": case.category}
        yield Brief(protocol, case.prompt, references_of(question, seen), (picture,), about)
