"""Requests to an endpoint: within its rate limit and a budget, until they are answered or their deadline has passed.

    async with Client(load_endpoint(Path("judge.toml"))) as client:
        reply = await client.ask([{"role": "user", "content": "..."}], schema)

A problem of one request is a Reply with a status. A problem that every further request would have too (a wrong key, an
unknown model, a spent budget) is raised, and the client sends nothing after it.
"""

import asyncio
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from fewstep.endpoint.declaration import Endpoint, ResponseFormat
from fewstep.endpoint.rate_limiter import RateLimiter
from fewstep.endpoint.reply import Reply, ReplyStatus
from fewstep.endpoint.response import (
    CallOutcome,
    Completion,
    Rejected,
    Retry,
    Unusable,
    parse_response,
)
from fewstep.endpoint.spending import SpendingBudget
from fewstep.runtime.errors import EndpointError, Unsent

ChatMessage = Mapping[str, Any]
LONGEST_PAUSE = 60.0  # s, ours: limit of the doubling; a pause that the server asks for may be longer
DEFAULT_OUTPUT_TOKENS = 1_000  # tokens, ours: for the estimate before the first answer, if no parameter limits them
LIMITS = ("max_completion_tokens", "max_tokens")
ABOUT_FORMAT = re.compile(r"response_format|json_schema|json_object|structured|schema|guided|grammar", re.IGNORECASE)
# A suffix that does not make a model's name another model: a date or a version number. Not a size, such as -4b.
VERSION = re.compile(r"[-@:](\d{2,8}([.-]\d{1,8})*|v\d+|latest|preview[\d.-]*|exp[\d.-]*)")


class Client:
    """One user of one endpoint. spent: what earlier runs cost, for the budget."""

    def __init__(self, endpoint: Endpoint, spent: float = 0.0):
        self.endpoint = endpoint
        self.spending = SpendingBudget(endpoint.budget, spent)
        self.rate_limiter = RateLimiter(endpoint.concurrency, endpoint.requests_per_minute)
        self._key = endpoint.key()
        self._format_index = 0
        self._answers = 0
        self._failures = 0
        self._stopped: EndpointError | None = None
        self._jitter = random.Random()
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        local = urlsplit(self.endpoint.base_url).hostname in ("127.0.0.1", "localhost", "::1")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=self.endpoint.concurrency)
        self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=None, trust_env=not local)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._http is not None
        await self._http.aclose()

    async def ask(self, messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None = None) -> Reply:
        """The reply to these chat messages. With a JSON Schema, JSON is asked for in the current response format.

        Raises:
            EndpointError: the server denies every such call (400, 401, 403, 404, ...), answers as another model or in
                HTML, or too many calls failed in a row.
            BudgetSpent: the call may exceed the budget.
        """
        self._go_on()
        estimate = await self.spending.reserve(self.estimate(messages))
        cost = None
        try:
            reply = await self._until_answered(messages, schema)
            cost = reply.cost
        except EndpointError as error:
            cost = error.cost
            raise
        finally:
            await self.spending.settle(estimate, cost)
        self._count(reply)
        return reply

    def estimate(self, messages: Sequence[ChatMessage]) -> float:
        """What these messages may cost before the first answer: 3 characters per token, pictures as declared."""
        if self.endpoint.price is None:
            return 0.0
        images, characters = _images(messages), sum(len(text) for text in _texts(messages))
        limits = [self.endpoint.parameters[key] for key in LIMITS if isinstance(self.endpoint.parameters.get(key), int)]
        given = characters / 3 + images * (self.endpoint.image_tokens or 1_024)
        return self.endpoint.price.of(given, min(limits, default=DEFAULT_OUTPUT_TOKENS), images)

    async def _until_answered(self, messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None) -> Reply:
        first: float | None = None
        tries = 0
        while True:
            async with self.rate_limiter.slot() as began:
                self._go_on()
                first, tries, format_index = first or began, tries + 1, self._format_index
                outcome = await self._try(self._body(messages, schema, format_index))
                if isinstance(outcome, Completion):
                    self.rate_limiter.succeeded()
                    return self._reply(
                        outcome, began, tries, self._response_format(schema, format_index), _images(messages)
                    )
            if isinstance(outcome, Unusable):
                return self._failed(outcome.why, began, tries)
            if isinstance(outcome, Rejected):
                self._step_down_or_stop(outcome, schema, format_index)
                continue
            pause = self._pause(outcome, tries)
            if outcome.after and outcome.after > self.endpoint.deadline_s:
                raise self._stop(
                    f"{outcome.why}\nThe server asks for {outcome.after:,.0f} s of patience, more than deadline_s "
                    f"{self.endpoint.deadline_s:g}. Come back later, or raise deadline_s; what was answered is kept"
                )
            if outcome.throttled:
                self.rate_limiter.throttled(began, pause)
            left = first + self.endpoint.deadline_s - time.monotonic()
            if pause >= left:
                asked = f"; the server asks for {outcome.after:.0f} s more" if outcome.after else ""
                return self._failed(f"{outcome.why} (after {tries} tries{asked})", began, tries)
            await asyncio.sleep(pause)

    async def _try(self, body: Mapping[str, Any]) -> CallOutcome:
        assert self._http is not None, "ask within `async with`"
        try:
            # httpx's own timeouts are for single reads; a server that drips a byte a second would never end.
            async with asyncio.timeout(self.endpoint.timeout_s):
                answer = await self._http.post(f"{self.endpoint.base_url}/chat/completions", json=body)
        except TimeoutError:
            return Retry(f"no answer within {self.endpoint.timeout_s:g} s")
        except httpx.TransportError as error:
            return Retry(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            return Rejected(0, str(error))
        return parse_response(answer.status_code, answer.headers, answer.content)

    def _body(
        self, messages: Sequence[ChatMessage], schema: Mapping[str, Any] | None, format_index: int
    ) -> dict[str, Any]:
        body = {**self.endpoint.parameters, "model": self.endpoint.model, "messages": list(messages)}
        name = self._response_format(schema, format_index)
        if name == "json_schema":
            described = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        elif name == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _response_format(self, schema: Mapping[str, Any] | None, format_index: int) -> ResponseFormat | None:
        return None if schema is None else self.endpoint.structured[format_index]

    def _reply(
        self, spoken: Completion, began: float, tries: int, format_index: ResponseFormat | None, images: int
    ) -> Reply:
        status: ReplyStatus = "ok"
        why = None
        if spoken.refusal is not None:
            status, why = "refused", self._masked(spoken.refusal)
        elif spoken.finish == "length":
            while_ = " while it was still in its reasoning" if spoken.thoughts else ""
            status, why = "truncated", f"the token limit cut the answer{while_}; raise max_tokens in parameters"
        elif spoken.thoughts is not None:
            status, why = "failed", _put_elsewhere(spoken.thoughts)
        reply = Reply(
            status,
            spoken.text,
            why,
            spoken.model,
            spoken.finish,
            spoken.tokens,
            time.monotonic() - began,
            tries,
            format_index,
            self._cost(spoken, images),
        )
        self._refuse_another_model(reply)
        return reply

    def _failed(self, why: str, began: float, tries: int) -> Reply:
        return Reply("failed", "", self._masked(why), seconds=time.monotonic() - began, tries=tries)

    def _cost(self, spoken: Completion, images: int) -> float | None:
        price = self.endpoint.price
        if price is None or (price.by_token and spoken.tokens is None):
            if price is not None and self.endpoint.budget is not None and spoken.refusal is None:
                raise self._stop("the server reports no token usage, so the budget cannot be kept; take budget out")
            return None
        given, made = (spoken.tokens.input, spoken.tokens.output) if spoken.tokens else (0, 0)
        return price.of(given, made, images)

    def _refuse_another_model(self, reply: Reply) -> None:
        if reply.model is None:
            return
        asked, answered = _plain(self.endpoint.model), _plain(reply.model)
        accepted = {asked, *map(_plain, self.endpoint.answers_as)}
        dated = answered.startswith(asked) and VERSION.fullmatch(answered[len(asked) :])
        if answered not in accepted and not dated:
            error = self._stop(
                f"{self.endpoint.model} was asked but {reply.model!r:.80} answered. If it is the one that is meant, "
                f"declare answers_as: [{reply.model:.80}]"
            )
            error.cost = reply.cost
            raise error

    def _step_down_or_stop(self, denied: Rejected, schema: Mapping[str, Any] | None, format_index: int) -> None:
        """Goes on to the next response format if the server does not know this one; otherwise stops."""
        about = denied.status in (400, 422) and ABOUT_FORMAT.search(denied.words)
        if schema is not None and about and format_index + 1 < len(self.endpoint.structured):
            self._format_index = max(self._format_index, format_index + 1)
            return
        raise self._stop(f"{denied.words}\n{_remedy(denied.status, self.endpoint)}", denied.status)

    def _pause(self, outcome: Retry, tries: int) -> float:
        """Seconds before another try: what the server asks for, or a doubling pause with a jitter that shortens it by
        up to half."""
        if outcome.after:
            return outcome.after
        longest = min(LONGEST_PAUSE, self.endpoint.backoff_s * 2.0 ** min(tries - 1, 30))
        return longest * self._jitter.uniform(0.5, 1)

    def _count(self, reply: Reply) -> None:
        self._failures = self._failures + 1 if reply.status == "failed" else 0
        if self._failures >= self.endpoint.give_up_after:
            self._stop(f"{self._failures} calls in a row failed, the last with: {reply.why}. Look at the server first")

    def _go_on(self) -> None:
        if self._stopped is not None:
            raise Unsent(str(self._stopped))

    def _stop(self, words: str, status: int = 0) -> EndpointError:
        """The error that ends this call and all that would follow."""
        said = f"{self.endpoint.base_url} ({self.endpoint.model})" + (f" answered {status}" if status else "")
        self._stopped = EndpointError(f"{said}: {self._masked(words)}")
        return self._stopped

    def _masked(self, words: str) -> str:
        """Servers tend to repeat the key that they refuse."""
        return words.replace(self._key, "(the key)") if self._key else words


def _put_elsewhere(key: str) -> str:
    return (
        f"the server put its answer in {key} and left the content empty: turn reasoning off (in parameters, such as "
        "chat_template_kwargs: {enable_thinking: false}), or start the server with the reasoning parser of this model"
    )


def _remedy(status: int, endpoint: Endpoint) -> str:
    if status in (401, 403):
        return f"Check the key in {endpoint.key_env}" if endpoint.key_env else "Name the key's variable as key_env"
    if status == 404:
        return "Check model and base_url; the address usually ends in /v1"
    if status == 429:
        return "The account has no credit left"
    if status == 413:
        return "Declare max_side to send smaller pictures"
    if status in (400, 422):
        return "Mend parameters, structured or model in the declaration"
    return "Check base_url; the address usually ends in /v1"


def _plain(model: str) -> str:
    return model.removeprefix("models/").lower()


def _parts(messages: Sequence[ChatMessage]) -> list[Mapping[str, Any]]:
    return [part for message in messages if isinstance(message["content"], list) for part in message["content"]]


def _images(messages: Sequence[ChatMessage]) -> int:
    return sum(part.get("type") == "image_url" for part in _parts(messages))


def _texts(messages: Sequence[ChatMessage]) -> list[str]:
    plain = [message["content"] for message in messages if isinstance(message["content"], str)]
    return plain + [part["text"] for part in _parts(messages) if part.get("type") == "text"]
