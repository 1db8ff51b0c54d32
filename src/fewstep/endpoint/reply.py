"""What a caller gets for a question."""

from dataclasses import dataclass
from typing import Literal

from fewstep.endpoint.declaration import ResponseFormat
from fewstep.endpoint.response import Tokens

ReplyStatus = Literal["ok", "refused", "truncated", "failed"]


@dataclass(frozen=True)
class Reply:
    """One question's end. Only "ok" may be read as an answer: "refused" (the model or a filter declined), "truncated"
    (the token limit cut it) and "failed" (no answer until the deadline, or one without content) say so in `why`.

    model: as the server named itself. seconds: of the last try. tries: HTTP requests made. rung: how JSON was asked
    for, None where it was not. cost: None where the price or the tokens are unknown."""

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
