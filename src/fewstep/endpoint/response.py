"""What a server's HTTP answer means for a call: an answer, another try, or the end of the run.

A function of status, headers and body alone, so every oddity of a server can be tested.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard

from fewstep.runtime.strict_json import TooDeep, load_json

FILTERS = {"content_filter", "content_policy_violation", "moderation_blocked"}  # codes of a refusal sent as an error
REFUSING = {"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "refusal"}  # finish reasons
SPENT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}  # 429s that waiting does not cure
AGAIN = {408, 409, 425, 429}
SHOWN = 400  # characters of the server's words in a message
THOUGHTS = (
    "reasoning_content",
    "reasoning",
)  # where servers put what a model thinks (vLLM, DeepSeek; OpenRouter, vLLM)
MOST_TOKENS = 10**12  # of one answer: more is no count


@dataclass(frozen=True)
class Tokens:
    input: int
    output: int


@dataclass(frozen=True)
class Completion:
    """The model answered. refusal: its words, or the filter's, if it declined. thoughts: the key that holds all it
    said, if it is one for thoughts and the content is empty."""

    text: str
    model: str | None = None
    finish: str | None = None
    tokens: Tokens | None = None
    refusal: str | None = None
    thoughts: str | None = None


@dataclass(frozen=True)
class Retry:
    """Another try may help. after: seconds that the server asks for; crowded: it said that there are too many
    requests."""

    why: str
    after: float | None = None
    throttled: bool = False


@dataclass(frozen=True)
class Unusable:
    """A 200 answer that cannot be used, and another try would cost again."""

    why: str


@dataclass(frozen=True)
class Rejected:
    """No call of this declaration can succeed. words: the server's own."""

    status: int
    words: str


CallOutcome = Completion | Retry | Unusable | Rejected


def parse_response(status: int, headers: Mapping[str, str], body: bytes) -> CallOutcome:
    """The outcome of one try. `headers` is read with lower-case names."""
    if 200 <= status < 300 and headers.get("content-type", "").startswith("text/event-stream"):
        return _streamed(body)
    try:
        content = _json(body)
    except TooDeep:
        content = None
        if 200 <= status < 300:
            return Unusable("the answer is JSON that is nested without end")
    if status == 200 and isinstance(content, dict) and isinstance(content.get("error"), dict):
        status = _status_within(content["error"])  # some routers report their upstream's failure with 200
    if 200 <= status < 300:
        return _spoken(content) if isinstance(content, dict) else _foreign(status, headers, body)
    if 300 <= status < 400:
        return Rejected(status, f"it sends us to {headers.get('location', 'another address')!r:.200}")
    return _failure(status, headers, content, body)


def _failure(status: int, headers: Mapping[str, str], content: Any, body: bytes) -> CallOutcome:
    words, code = _words(content, headers, body), _code(content)
    if status == 400 and code in FILTERS:
        return Completion("", finish=code, refusal=words)
    if status in AGAIN and code not in SPENT:
        return Retry(f"{status}: {words}", _after(headers), throttled=status == 429)
    if status >= 500:
        return Retry(f"{status}: {words}", _after(headers))
    return Rejected(status, words)


def _foreign(status: int, headers: Mapping[str, str], body: bytes) -> CallOutcome:
    return Rejected(status, f"no JSON came but {_words(None, headers, body)}")


def _json(body: bytes) -> Any:
    """None for what is no JSON.

    Raises:
        TooDeep: it is nested too deeply to be read.
    """
    try:
        return load_json(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None


def _spoken(content: dict[str, Any]) -> CallOutcome:
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Unusable(f"the answer holds no choices: {_shown(content)}")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return Unusable(f"the answer holds no message: {_shown(content)}")
    finish, refusal = _text(choices[0].get("finish_reason")), _text(message.get("refusal"))
    text = _content(message.get("content"))
    return Completion(
        text=text,
        model=_text(content.get("model")),
        finish=finish,
        tokens=_tokens(content.get("usage")),
        refusal=refusal or (f"stopped by {finish}" if (finish or "").lower() in REFUSING else None),
        thoughts=None if text.strip() else _thoughts(message),
    )


def _thoughts(message: dict[str, Any]) -> str | None:
    """The key under which the message holds thoughts."""
    return next((key for key in THOUGHTS if _content(message.get(key)).strip()), None)


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)[:SHOWN]
    except RecursionError:
        return "JSON that is nested without end"


def _streamed(body: bytes) -> CallOutcome:
    """The pieces of a streamed answer joined. A stream without a finish reason and without [DONE] broke off."""
    whole = Completion("")
    refusal = ""
    for event in _events(body):
        if isinstance(event.get("error"), dict):
            return _failure(_status_within(event["error"]), {}, event, b"")
        choices = event.get("choices")
        choice = _dict(choices[0]) if isinstance(choices, list) and choices else {}
        delta = _dict(choice.get("delta"))
        refusal += _text(delta.get("refusal")) or ""
        whole = replace(
            whole,
            text=whole.text + _content(delta.get("content")),
            model=_text(event.get("model")) or whole.model,
            finish=_text(choice.get("finish_reason")) or whole.finish,
            tokens=_tokens(event.get("usage")) or whole.tokens,
            thoughts=whole.thoughts or _thoughts(delta),
        )
    if whole.finish is None and not body.rstrip().endswith(b"[DONE]"):
        return Retry("the streamed answer broke off")
    stopped = f"stopped by {whole.finish}" if (whole.finish or "").lower() in REFUSING else None
    return replace(whole, refusal=refusal or stopped, thoughts=None if whole.text.strip() else whole.thoughts)


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.splitlines():
        try:
            event = _json(line[5:]) if line.startswith(b"data:") else None
        except TooDeep:
            continue
        if isinstance(event, dict):
            yield event


def _content(value: Any) -> str:
    """Text, or the text parts of a list of parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) or "" for part in value if isinstance(part, dict))
    return _text(value) or ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return writable(value) if isinstance(value, str) and value else None


def writable(text: str) -> str:
    """The text with half characters (lone surrogates) replaced: JSON can hold them, files cannot."""
    return text.encode("utf-8", "replace").decode()


def _tokens(usage: Any) -> Tokens | None:
    if not isinstance(usage, dict):
        return None
    given, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Tokens(given, made) if _is_count(given) and _is_count(made) else None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def _status_within(error: dict[str, Any]) -> int:
    code = error.get("code", error.get("status"))
    return code if isinstance(code, int) and 400 <= code < 600 else 502


def _code(content: Any) -> str | None:
    error = content.get("error") if isinstance(content, dict) else None
    codes = (error.get("code"), error.get("type")) if isinstance(error, dict) else ()
    return next((code for code in codes if isinstance(code, str) and code in FILTERS | SPENT), None)


def _words(content: Any, headers: Mapping[str, str], body: bytes) -> str:
    """What the server said, at most SHOWN characters, on one line."""
    if isinstance(content, list) and content:  # Gemini wraps its errors in a list
        content = content[0]
    if isinstance(content, dict):
        error = content.get("error", content.get("detail", content.get("message", content)))
        said = error.get("message") if isinstance(error, dict) else error
        return writable(" ".join((said if isinstance(said, str) else _shown(error)).split())[:SHOWN])
    text = " ".join(body.decode(errors="replace").split())
    if "html" in headers.get("content-type", "") or text[:1] == "<":
        return f"a page of HTML ({text[:120]!r})"
    return text[:SHOWN] or "no words"


def _after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds, written as a number or as a date."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
