"""A pass: questions to a judge, each answer on disk before it counts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from fewstep.bench.asking import Asking, Brief, identity
from fewstep.bench.attempts import STOPPED, Attempts
from fewstep.bench.parsing import read_reply
from fewstep.endpoint.client import USUAL_OUTPUT, Client
from fewstep.endpoint.crew import work_through
from fewstep.endpoint.declaration import Endpoint
from fewstep.errors import EndpointError, JudgeError, Unsent

PATCH = 32  # px, ours: where nothing is declared, a token of a picture is about so wide (Qwen3-VL)
CHARACTERS = 3.5  # of English to a token, ours
ENOUGH = 20  # answers from which on their tokens, not a guess, make the estimate


@dataclass(frozen=True)
class Estimate:
    """What a pass would take. measured: from earlier answers of this judge, or guessed from sizes and lengths. cost:
    None where no price is declared."""

    calls: int
    pictures: int
    input_tokens: float
    output_tokens: float
    cost: float | None
    measured: bool


def put(
    waiting: Sequence[Asking],
    endpoint: Endpoint,
    attempts: Attempts,
    advance: Callable[[str], object] = lambda status: None,
    hopeful: int | None = None,
) -> None:
    """Asks all that waits and records every attempt.

    Args:
        advance: told the status of each answer.
        hopeful: answers without any verdict after which this pass is given up; None never gives up.

    Raises:
        EndpointError, BudgetSpent: see `Client.ask`; or the first `hopeful` answers were all of no use. What was
            answered until then is on disk.
    """
    ended: list[str] = []

    async def one(asking: Asking) -> None:
        ended.append(await _ask(asking, client, attempts))
        advance(ended[-1])
        if hopeful is not None and len(ended) >= hopeful and "ok" not in ended:
            raise EndpointError(
                f"none of the first {len(ended)} answers is a verdict ({', '.join(sorted(set(ended)))}); see why and "
                f"text in {attempts.path}, mend the judge's file, and let `fewstep judge retry` ask them again"
            )

    async def all_() -> None:
        async with client:
            await work_through(waiting, one, endpoint.concurrency)

    client = Client(endpoint, attempts.spent)
    asyncio.run(all_())


async def _ask(asking: Asking, client: Client, attempts: Attempts) -> str:
    brief, endpoint = asking.brief, client.endpoint
    messages, sent = await asyncio.to_thread(brief.messages, endpoint.max_side)
    told = {
        **brief.about,
        "judge": endpoint.name,
        "asked": identity(endpoint),
        "protocol": brief.protocol.name,
        "rubric": brief.rubric,
        "words": brief.words,
        "sent": sent,
    }
    try:
        reply = await client.ask(messages, brief.protocol.answer_schema(brief.rubric))
    except Unsent:
        raise
    except EndpointError as error:
        attempts.add(asking, {**told, "status": STOPPED, "why": str(error), "cost": error.cost})
        raise
    reading = read_reply(reply, brief.protocol, brief.rubric)
    spoken = {
        "model": reply.model,
        "text": reply.text,
        "finish": reply.finish,
        "rung": reply.rung,
        "tries": reply.tries,
        "seconds": round(reply.seconds, 3),
        "tokens": None if reply.tokens is None else asdict(reply.tokens),
        "cost": reply.cost,
    }
    attempts.add(asking, {**told, **asdict(reading), **spoken})
    return reading.status


def estimate(waiting: Sequence[Asking], endpoint: Endpoint, attempts: Attempts) -> Estimate:
    """What asking all that waits would take, without asking anything."""
    pictures = sum(len(asking.brief.pictures) for asking in waiting)
    tokens = attempts.of("tokens")
    measured = len(tokens) >= ENOUGH
    if measured:
        given = sum(t["input"] for t in tokens) / len(tokens) * len(waiting)
        made = sum(t["output"] for t in tokens) / len(tokens) * len(waiting)
    else:
        given = sum(_input_tokens(asking.brief, endpoint) for asking in waiting)
        made = float(USUAL_OUTPUT * len(waiting))
    price = endpoint.price
    cost = None if price is None else price.of(given, made, pictures)
    return Estimate(len(waiting), pictures, given, made, cost, measured)


def refuse_another_judge(attempts: Attempts, endpoint: Endpoint) -> None:
    """One name, one judge.

    Raises:
        JudgeError: the attempts under this name are another model's, or were made with other parameters.
    """
    if any(asked != identity(endpoint) for asked in attempts.of("asked")):
        raise JudgeError(
            f"{attempts.path} holds answers to another model, other parameters or another max_side under the name "
            f"{endpoint.name}; give this judge another `name` in its file"
        )


def _input_tokens(brief: Brief, endpoint: Endpoint) -> float:
    words = len(brief.protocol.words(brief.rubric)) + len(brief.prompt)
    return words / CHARACTERS + sum(_picture_tokens(p.size, endpoint) for p in brief.pictures)


def _picture_tokens(size: tuple[int, int], endpoint: Endpoint) -> float:
    if endpoint.image_tokens is not None:
        return endpoint.image_tokens
    scale = min(1.0, endpoint.max_side / max(size)) if endpoint.max_side is not None else 1.0
    return size[0] * size[1] * scale**2 / PATCH**2


@dataclass(frozen=True)
class Summary:
    """Questions by status, those without an answer as "waiting"; the models that answered; and what was spent."""

    statuses: dict[str, int]
    models: tuple[str, ...]
    spent: float


def summary(attempts: Attempts, wanted: Sequence[Asking]) -> Summary:
    statuses: dict[str, int] = {}
    for mark in {asking.mark for asking in wanted}:
        held = attempts.standing(mark)
        status = "waiting" if held is None else str(held["status"])
        statuses[status] = statuses.get(status, 0) + 1
    return Summary(statuses, tuple(sorted(set(attempts.of("model")))), attempts.spent)
