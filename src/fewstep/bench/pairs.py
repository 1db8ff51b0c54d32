"""A judge's pass over two galleries, picture by picture, each pair in both orders: the questions to ask, and the
verdicts that follow from the attempts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fewstep.bench import protocol as protocols
from fewstep.bench.attempts import Attempts, RequestKey
from fewstep.bench.gallery import open_gallery
from fewstep.bench.gallery_pair import common_suite, system_names
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
from fewstep.bench.pair_verdict import FOLDER, PairVerdict, folder_name, pair_verdict_of
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime import durable
from fewstep.runtime.errors import GalleryError, JudgeError


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
        """Writes the verdicts file from the attempts that count."""
        found: list[PairVerdict] = []
        paid: set[RequestKey] = set()
        for request in self.wanted:
            held = attempts.result_of(request.request_key)
            if held is not None:
                free = {"cost": 0.0, "tokens": {}} if request.request_key in paid else {}
                found.append(pair_verdict_of({**held, **request.question.about, **free, "judge": self.judge}))
                paid.add(request.request_key)
        if found or self.verdicts.exists():
            durable.write_atomically(
                self.verdicts, "".join(json.dumps(asdict(v), ensure_ascii=False) + "\n" for v in found)
            )
        return found


def plan_pair_pass(a: Path, b: Path, endpoint: Endpoint, protocol: str | None) -> PairJudgePass:
    """The questions for this judge about two galleries of one suite. Files go beside the first gallery.

    Raises:
        GalleryError: not of one suite, of one name, or without a common picture.
        JudgeError, CaseError: as `plan_judge_pass`.
    """
    galleries, suite = (open_gallery(a), open_gallery(b)), common_suite(a, b)
    chosen = protocols.load_protocol(protocol or "pair-v1", suite.task)
    if chosen.kind != "pair":
        raise JudgeError(f"protocol {chosen.name} rates single pictures; pairs need one such as pair-v1")
    names = system_names(galleries)
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
