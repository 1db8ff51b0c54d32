"""What a caller gets for a request."""

from dataclasses import dataclass
from typing import Literal

from fewstep.endpoint.declaration import ResponseFormat
from fewstep.endpoint.response import Tokens

ReplyStatus = Literal["ok", "refused", "truncated", "failed"]


@dataclass(frozen=True)
class Reply:
    """The outcome of one request. Only "ok" may be read as an answer. The others state their reason in `why`: "refused"
    (the model or a filter declined), "truncated" (the token limit cut the answer) and "failed" (no answer before the
    deadline, or one without content).

    model: as the server names itself. seconds: of the last try. tries: HTTP requests made. response_format: how JSON
    was asked for; None if it was not. cost: None if the price or the tokens are unknown.
    """

    status: ReplyStatus
    text: str
    why: str | None = None
    model: str | None = None
    finish: str | None = None
    tokens: Tokens | None = None
    seconds: float = 0.0
    tries: int = 1
    response_format: ResponseFormat | None = None
    cost: float | None = None
