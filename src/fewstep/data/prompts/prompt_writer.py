"""A prompt set written by an endpoint: requests are sent in blocks, many at once, until every category has its count.

Answers are processed in the order of their requests, whatever order they came in. So the set follows from the record
alone.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep.data.cases import Case
from fewstep.data.prompts.answer_log import UNANSWERED, AnswerLog
from fewstep.data.prompts.dedup import PromptDedup
from fewstep.data.prompts.prompt_requests import (
    SCHEMA,
    AcceptsPrompts,
    CategoryRequests,
    prompts_in,
    usable,
)
from fewstep.endpoint.bounded_map import bounded_map
from fewstep.endpoint.client import Client
from fewstep.endpoint.declaration import Endpoint
from fewstep.endpoint.reply import Reply
from fewstep.runtime.errors import EndpointError

BLOCK = 8  # most requests of a block per concurrent one: a block ends only when its slowest request does
PATIENCE = 20  # requests in a row that may give (almost) nothing new
HOPE = 4  # requests that an estimate of the yield counts as full ones
BARREN = 0.02  # share of the prompts asked for; a smaller yield counts as nothing new


@dataclass(frozen=True)
class WritingProgress:
    """How far the writing is. kept: distinct prompts so far; dropped: repeated, nearly repeated, or in the benchmark;
    spoilt: prompts and answers that could not be used; cost: None if the price is unknown."""

    wanted: int
    kept: int
    dropped: int
    spoilt: int
    requests: int
    tokens: int
    cost: float | None


def write_prompts(
    asks: Sequence[CategoryRequests],
    count: int,
    endpoint: Endpoint,
    record: Path,
    avoid: Iterable[str] = (),
    on_progress: Callable[[WritingProgress], object] = lambda tally: None,
) -> list[Case]:
    """`count` cases of each category. The answers so far are in `record`; the same call goes on from there.

    Raises:
        CaseError: `record` is of another set.
        EndpointError: the endpoint cannot be used, or writes nothing new.
        BudgetSpent: the next call may exceed the budget.
    """
    heading = {"model": endpoint.model, "asks": {ask.name: f"{ask.each} x {ask.fingerprint()}" for ask in asks}}
    return asyncio.run(
        _PromptWriter(asks, count, endpoint, AnswerLog(record, heading), PromptDedup(avoid), on_progress).all()
    )


class _PromptWriter:
    def __init__(
        self,
        asks: Sequence[CategoryRequests],
        count: int,
        endpoint: Endpoint,
        answers: AnswerLog,
        dedup: PromptDedup,
        on_progress: Callable[[WritingProgress], object],
    ):
        self._asks, self._count, self._endpoint = asks, count, endpoint
        self._answers, self._dedup, self._on_progress = answers, dedup, on_progress
        self._spoilt = 0
        self._source = f"written by {endpoint.model}"

    async def all(self) -> list[Case]:
        async with Client(self._endpoint, self._answers.cost) as client:
            return [case for ask in self._asks for case in await self._one_category(ask, client)]

    async def _one_category(self, ask: CategoryRequests, client: Client) -> list[Case]:
        cases: list[Case] = []
        gains: list[int] = []  # new prompts of each request
        while len(cases) < self._count:
            block = range(len(gains), len(gains) + self._size(ask, len(cases), gains))
            waiting = [number for number in block if (ask.name, number) not in self._answers]
            await bounded_map(waiting, lambda number: self._ask(ask, number, client), self._endpoint.concurrency)
            for number in block:
                new = self._new(ask, number, self._count - len(cases), len(cases))
                cases += new
                gains.append(len(new))
            self._tell()
            if len(cases) < self._count:
                self._refuse_barren(ask, gains)
        return cases

    def _size(self, ask: CategoryRequests, have: int, gains: Sequence[int]) -> int:
        """Requests of the next block: as many as should suffice at the recent yield. Too few cost a moment, too many
        cost money."""
        recent = gains[-4 * PATIENCE :]
        rate = (sum(recent) + HOPE * ask.each) / (len(recent) + HOPE)
        return min(math.ceil((self._count - have) / rate), BLOCK * self._endpoint.concurrency)

    async def _ask(self, ask: CategoryRequests, number: int, client: Client) -> None:
        reply = await client.ask(ask.messages(number), SCHEMA)
        self._answers.add({"category": ask.name, "request": number, **answer_row(reply, ask)})
        self._tell()

    def _new(self, ask: CategoryRequests, number: int, most: int, have: int) -> list[Case]:
        """The cases of a request's answer that are new."""
        row = self._answers[ask.name, number]
        self._spoilt += row.get("spoilt", 0) + (row["status"] != "ok")
        cases: list[Case] = []
        for prompt in row.get("prompts", []):
            if len(cases) < most and self._dedup.admits(prompt, ask.about(number)):
                name = f"{ask.name}-{have + len(cases):06d}"
                cases.append(ask.case(number, prompt, name, self._source))
        return cases

    def _refuse_barren(self, ask: CategoryRequests, gains: Sequence[int]) -> None:
        last = gains[-PATIENCE:]
        if len(gains) < PATIENCE or sum(last) > BARREN * ask.each * len(last):
            return
        numbers = range(len(gains) - len(last), len(gains))
        why = next((row["why"] for n in reversed(numbers) if (row := self._answers[ask.name, n]).get("why")), None)
        said = f"; the last complaint: {why}" if why else ""
        raise EndpointError(
            f"{self._endpoint.model} gave {sum(last)} new {ask.name} prompts in its last {len(last)} answers, after "
            f"{sum(gains):,} in all{said}. Raise temperature in parameters, ask for fewer, or take another model; what "
            f"was answered is kept in {self._answers.path}"
        )

    def _tell(self) -> None:
        dedup, answers = self._dedup, self._answers
        cost = answers.cost if self._endpoint.price is not None else None
        wanted = self._count * len(self._asks)
        self._on_progress(
            WritingProgress(wanted, dedup.kept, dedup.dropped, self._spoilt, len(answers), answers.tokens, cost)
        )


def answer_row(reply: Reply, ask: AcceptsPrompts) -> dict[str, Any]:
    """The part of a reply that is recorded. status: as the client's, or "invalid" if it holds no JSON of the form asked
    for."""
    status: str = reply.status
    why, prompts = reply.why, list[str]()
    if reply.status == "ok":
        try:
            prompts = prompts_in(reply.text)[: ask.each]
        except ValueError as error:
            status, why = "invalid", f"{error}: {reply.text!r:.200}"
    good = [prompt for prompt in prompts if usable(prompt, ask)]
    row: dict[str, Any] = {"status": status, "prompts": good, "spoilt": len(prompts) - len(good)}
    tokens = {"input": reply.tokens.input, "output": reply.tokens.output} if reply.tokens else None
    row |= {"why": why, "model": reply.model, "rung": reply.response_format, "seconds": round(reply.seconds, 3)}
    row |= {"tries": reply.tries, "tokens": tokens, "cost": reply.cost}
    assert status != UNANSWERED or not good
    return row
