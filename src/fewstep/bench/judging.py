"""A pass: requests to a judge, with each answer written to disk before it counts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from fewstep.bench.attempts import STOPPED, Attempts
from fewstep.bench.judge_requests import (
    JudgeQuestion,
    JudgeRequest,
    judge_hash,
)
from fewstep.bench.parsing import parse_reply
from fewstep.endpoint.bounded_map import bounded_map
from fewstep.endpoint.client import DEFAULT_OUTPUT_TOKENS, Client
from fewstep.endpoint.declaration import Endpoint
from fewstep.runtime.errors import (
    EndpointError,
    JudgeError,
    Unsent,
)

PATCH = 32  # px, ours: side of the square of a picture that makes one token, if nothing is declared (Qwen3-VL)
CHARACTERS = 3.5  # of English text per token, ours
ENOUGH = 20  # with at least this many answers the estimate uses their tokens, not a guess


@dataclass(frozen=True)
class CostEstimate:
    """What a pass would take. measured: from earlier answers of this judge; otherwise guessed from sizes and lengths.
    cost: None if no price is declared."""

    calls: int
    pictures: int
    input_tokens: float
    output_tokens: float
    cost: float | None
    measured: bool


def ask_judge(
    waiting: Sequence[JudgeRequest],
    endpoint: Endpoint,
    attempts: Attempts,
    advance: Callable[[str], object] = lambda status: None,
    give_up_after: int | None = None,
) -> None:
    """Sends all waiting requests and records every attempt.

    Args:
        advance: called with the status of each answer.
        give_up_after: the number of answers without any verdict after which this pass is given up; None never gives up.

    Raises:
        EndpointError, BudgetSpent: see `Client.ask`. EndpointError also if none of the first `give_up_after` answers is
            a verdict. Answers until then are on disk.
    """
    ended: list[str] = []

    async def one(request: JudgeRequest) -> None:
        ended.append(await _ask(request, client, attempts))
        advance(ended[-1])
        if give_up_after is not None and len(ended) >= give_up_after and "ok" not in ended:
            raise EndpointError(
                f"none of the first {len(ended)} answers is a verdict ({', '.join(sorted(set(ended)))}); see why and "
                f"text in {attempts.path}, mend the judge's file, and let `fewstep judge retry` ask them again"
            )

    async def all_() -> None:
        async with client:
            await bounded_map(waiting, one, endpoint.concurrency)

    client = Client(endpoint, attempts.spent)
    asyncio.run(all_())


async def _ask(request: JudgeRequest, client: Client, attempts: Attempts) -> str:
    question, endpoint = request.question, client.endpoint
    messages, sent = await asyncio.to_thread(question.messages, endpoint.max_side)
    told = {
        **question.about,
        "judge": endpoint.name,
        "asked": judge_hash(endpoint),
        "protocol": question.protocol.name,
        "rubric": question.rubric,
        "words": question.words,
        "sent": sent,
    }
    try:
        reply = await client.ask(messages, question.protocol.answer_schema(question.rubric))
    except Unsent:
        raise
    except EndpointError as error:
        attempts.add(request, {**told, "status": STOPPED, "why": str(error), "cost": error.cost})
        raise
    reading = parse_reply(reply, question.protocol, question.rubric)
    spoken = {
        "model": reply.model,
        "text": reply.text,
        "finish": reply.finish,
        "rung": reply.response_format,
        "tries": reply.tries,
        "seconds": round(reply.seconds, 3),
        "tokens": None if reply.tokens is None else asdict(reply.tokens),
        "cost": reply.cost,
    }
    attempts.add(request, {**told, **asdict(reading), **spoken})
    return reading.status


def estimate_cost(waiting: Sequence[JudgeRequest], endpoint: Endpoint, attempts: Attempts) -> CostEstimate:
    """What all waiting requests would take; nothing is sent."""
    tokens = attempts.of("tokens")
    if len(tokens) < ENOUGH:
        return guess_cost([request.question for request in waiting], endpoint)
    given = sum(t["input"] for t in tokens) / len(tokens) * len(waiting)
    made = sum(t["output"] for t in tokens) / len(tokens) * len(waiting)
    return _estimate([request.question for request in waiting], endpoint, given, made, measured=True)


def guess_cost(questions: Sequence[JudgeQuestion], endpoint: Endpoint) -> CostEstimate:
    """The same from sizes and lengths alone, before anything was asked."""
    given = sum(_input_tokens(question, endpoint) for question in questions)
    return _estimate(questions, endpoint, given, float(DEFAULT_OUTPUT_TOKENS * len(questions)), measured=False)


def _estimate(
    questions: Sequence[JudgeQuestion], endpoint: Endpoint, given: float, made: float, measured: bool
) -> CostEstimate:
    pictures = sum(len(question.pictures) for question in questions)
    cost = None if endpoint.price is None else endpoint.price.of(given, made, pictures)
    return CostEstimate(len(questions), pictures, given, made, cost, measured)


def refuse_another_judge(attempts: Attempts, endpoint: Endpoint) -> None:
    """One name, one judge.

    Raises:
        JudgeError: the attempts under this name are another model's, or were made with other parameters.
    """
    if any(asked != judge_hash(endpoint) for asked in attempts.of("asked")):
        raise JudgeError(
            f"{attempts.path} holds answers to another model, other parameters or another max_side under the name "
            f"{endpoint.name}; give this judge another `name` in its file"
        )


def _input_tokens(question: JudgeQuestion, endpoint: Endpoint) -> float:
    words = len(question.protocol.words(question.rubric)) + len(question.prompt)
    return words / CHARACTERS + sum(_picture_tokens(p.size, endpoint) for p in question.pictures)


def _picture_tokens(size: tuple[int, int], endpoint: Endpoint) -> float:
    if endpoint.image_tokens is not None:
        return endpoint.image_tokens
    scale = min(1.0, endpoint.max_side / max(size)) if endpoint.max_side is not None else 1.0
    return size[0] * size[1] * scale**2 / PATCH**2


@dataclass(frozen=True)
class PassSummary:
    """Questions by status, those without an answer as "waiting"; the models that answered; and the tokens, cost and
    time."""

    statuses: dict[str, int]
    models: tuple[str, ...]
    spent: float


def pass_summary(attempts: Attempts, wanted: Sequence[JudgeRequest]) -> PassSummary:
    statuses: dict[str, int] = {}
    for request_key in {request.request_key for request in wanted}:
        held = attempts.result_of(request_key)
        status = "waiting" if held is None else str(held["status"])
        statuses[status] = statuses.get(status, 0) + 1
    return PassSummary(statuses, tuple(sorted(set(attempts.of("model")))), attempts.spent)
