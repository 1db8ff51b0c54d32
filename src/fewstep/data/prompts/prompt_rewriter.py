"""Prompts rewritten for the teachers by an endpoint, case by case.

The student keeps reading what its users type. The teachers read the rewriting, so the student learns to draw from the
short prompt what they draw from the long one. Answers are recorded as they come, and the same call goes on.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewstep.data.cases import Case
from fewstep.data.pictures import file_digest, open_picture
from fewstep.data.prompts.answer_log import AnswerLog
from fewstep.data.prompts.prompt_requests import SCHEMA, words_of_file
from fewstep.data.prompts.prompt_writer import WritingProgress, answer_row
from fewstep.data.teacher_prompts import lost_quotes
from fewstep.endpoint.bounded_map import bounded_map
from fewstep.endpoint.client import Client
from fewstep.endpoint.declaration import Endpoint
from fewstep.endpoint.messages import encode_picture, mixed_message, text_message
from fewstep.runtime.task import Task

TRIES = 3  # ours: answers that lose quoted text, or are no JSON of the form asked for, are asked for again
CATEGORY = "rewrite"  # of the rows in the record


@dataclass(frozen=True)
class RewriteRequest:
    """The request to rewrite one case's prompt.

    Args:
        question: what the model is told to do, for the case's task.
        max_side: in px, of the pictures that are sent; None sends them as they are.
    """

    case: Case
    question: str
    max_side: int | None
    each: int = 1

    def messages(self) -> list[Mapping[str, Any]]:
        pictures = [encode_picture(open_picture(path, self.case.where), self.max_side) for path in self.case.references]
        asked = f"Rewrite this:\n{self.case.prompt}"
        user = mixed_message("user", [*pictures, asked]) if pictures else text_message("user", asked)
        return [text_message("system", self.question), user]

    def accepts(self, prompt: str) -> bool:
        return not lost_quotes(self.case.prompt, prompt)


def questions(given: str | None = None) -> dict[Task, str]:
    """What the model is told, by task: the shipped words, or `given` for both."""
    return {"t2i": given or words_of_file("rewrite-t2i.md"), "edit": given or words_of_file("rewrite-edit.md")}


def rewrite_prompts(
    cases: Sequence[Case],
    endpoint: Endpoint,
    record: Path,
    asked: Mapping[Task, str],
    on_progress: Callable[[WritingProgress], object] = lambda progress: None,
) -> list[Case]:
    """The cases in their order, with a `teacher_prompt` where a usable rewriting came. Cases that have one keep it.

    Args:
        record: the file of the answers so far; the same call goes on from there.
        asked: what the model is told, by task.

    Raises:
        CaseError: `record` is of other cases, another model or other words. Or a picture cannot be read.
        EndpointError: the endpoint cannot be used. BudgetSpent: the next call may exceed the budget.
    """
    heading = {"model": endpoint.model, "asks": {CATEGORY: _fingerprint(cases, asked)}}
    return asyncio.run(_PromptRewriter(cases, endpoint, AnswerLog(record, heading), asked, on_progress).all())


class _PromptRewriter:
    def __init__(
        self,
        cases: Sequence[Case],
        endpoint: Endpoint,
        answers: AnswerLog,
        asked: Mapping[Task, str],
        on_progress: Callable[[WritingProgress], object],
    ):
        self._cases, self._endpoint, self._answers, self._on_progress = cases, endpoint, answers, on_progress
        self._requests = [RewriteRequest(case, asked[case.task], endpoint.max_side) for case in cases]
        self._wanted = [n for n, case in enumerate(cases) if case.teacher_prompt is None]

    async def all(self) -> list[Case]:
        async with Client(self._endpoint, self._answers.cost) as client:
            for attempt in range(TRIES):
                left = [n for n in self._wanted if self._rewritten(n) is None]
                numbers = [self._number(n, attempt) for n in left]
                waiting = [number for number in numbers if (CATEGORY, number) not in self._answers]
                await bounded_map(waiting, lambda number: self._ask(number, client), self._endpoint.concurrency)
        found = {n: self._rewritten(n) for n in self._wanted}
        return [replace(case, teacher_prompt=found.get(n, case.teacher_prompt)) for n, case in enumerate(self._cases)]

    async def _ask(self, number: int, client: Client) -> None:
        request = self._requests[number % len(self._cases)]
        reply = await client.ask(request.messages(), SCHEMA)
        self._answers.add({"category": CATEGORY, "request": number, **answer_row(reply, request)})
        self._tell()

    def _number(self, n: int, attempt: int) -> int:
        """Of the attempt-th request about case n."""
        return n + attempt * len(self._cases)

    def _rewritten(self, n: int) -> str | None:
        """The first usable answer about case n."""
        for number in (self._number(n, attempt) for attempt in range(TRIES)):
            if (CATEGORY, number) in self._answers and (prompts := self._answers[CATEGORY, number]["prompts"]):
                return str(prompts[0])
        return None

    def _tell(self) -> None:
        kept = sum(self._rewritten(n) is not None for n in self._wanted)
        cost = self._answers.cost if self._endpoint.price is not None else None
        spoilt = len(self._answers) - kept
        self._on_progress(
            WritingProgress(len(self._wanted), kept, 0, spoilt, len(self._answers), self._answers.tokens, cost)
        )


def _fingerprint(cases: Sequence[Case], asked: Mapping[Task, str]) -> str:
    told = [f"{c.prompt}\0{c.teacher_prompt}\0{[file_digest(path) for path in c.references]}" for c in cases]
    return hashlib.blake2b("\0".join([*told, *asked.values()]).encode(), digest_size=8).hexdigest()
