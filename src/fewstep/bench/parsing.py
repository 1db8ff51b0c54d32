"""A judge's reply as numbers, strictly, or as the status that says why there are none.

No answer is guessed from prose. One fence of backticks around the whole object is removed, because it is no part of the
JSON and changes nothing. Everything else that is not exactly the object asked for is "invalid".
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fewstep.bench.protocol import WINNERS, JudgeProtocol
from fewstep.bench.verdict import HIGHEST, LOWEST
from fewstep.endpoint.reply import Reply
from fewstep.endpoint.response import writable
from fewstep.runtime.strict_json import load_json

FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n```\s*", re.DOTALL)


@dataclass(frozen=True)
class ParsedReply:
    """status as in a verdict. score and sub_scores, or winner, are set exactly if it is "ok". why is set if it is not,
    or if a score is above the cap of a failure that the judge itself names."""

    status: str
    why: str | None = None
    score: float | None = None
    sub_scores: Mapping[str, float] = field(default_factory=dict)
    reasoning: str = ""
    failure_modes: tuple[str, ...] = ()
    winner: str | None = None


class _Invalid(ValueError):
    """The text is not the object that was asked for."""


class _OutOfRange(ValueError):
    """A score beyond the scale."""


def parse_reply(reply: Reply, protocol: JudgeProtocol, rubric: str | None) -> ParsedReply:
    """The content of the reply under this protocol."""
    if reply.status != "ok":
        return ParsedReply(reply.status, reply.why)
    try:
        answer = _object_of(reply.text)
        _refuse_keys(answer, set(protocol.answer_schema(rubric)["properties"]), "the answer")
        return _pair(answer) if protocol.kind == "pair" else _rating(answer, protocol, rubric)
    except _Invalid as error:
        return ParsedReply("invalid", writable(str(error)))
    except _OutOfRange as error:
        return ParsedReply("out_of_range", str(error))
    except RecursionError:  # read, but too deep to be shown in a message
        return ParsedReply("invalid", "nested without end")


def _object_of(words: str) -> dict[str, Any]:
    fenced = FENCE.fullmatch(words)
    try:
        answer = load_json(
            fenced[1] if fenced else words, object_pairs_hook=_each_key_once, parse_constant=_no_constant
        )
    except _Invalid:
        raise
    except json.JSONDecodeError as error:
        raise _Invalid(f"no JSON ({error.msg} at character {error.pos})" if words.strip() else "empty") from error
    except ValueError as error:
        raise _Invalid(f"no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise _Invalid(f"JSON, but no object: {words:.60}")
    return answer


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Invalid("a key stands twice")
    return found


def _no_constant(name: str) -> float:
    raise _Invalid(f"{name} is no JSON")


def _refuse_keys(answer: Mapping[str, Any], wanted: set[str], where: str) -> None:
    missing, strange = sorted(wanted - set(answer)), sorted(set(answer) - wanted)
    if missing or strange:
        told = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unasked {', '.join(strange)}"] * bool(strange)
        raise _Invalid(f"{where} {' and '.join(told)}"[:300])


def _rating(answer: Mapping[str, Any], protocol: JudgeProtocol, rubric: str | None) -> ParsedReply:
    reasoning, modes = _words(answer), _modes(answer.get("failure_modes", []))
    held = protocol.rubrics[rubric] if rubric is not None else None
    subs = answer.get("sub_scores", {})
    if not isinstance(subs, dict):
        raise _Invalid("sub_scores is no object")
    _refuse_keys(subs, set(held.criteria) if held else set(), "sub_scores")
    numbers = {name: _number(value, name) for name, value in [(protocol.score, answer[protocol.score]), *subs.items()]}
    for name, number in numbers.items():
        if not LOWEST <= number <= HIGHEST:
            raise _OutOfRange(f"{name} is {number:g}, beyond {LOWEST:g} to {HIGHEST:g}")
    score = numbers.pop(protocol.score)
    caps = {mode: held.caps[mode][0] for mode in modes if held and mode in held.caps}
    over = [f"{mode} caps at {cap:g}" for mode, cap in caps.items() if score > cap]
    why = f"{score:g} although {', '.join(over)}" if over else None
    return ParsedReply("ok", why, score, numbers, reasoning, modes)


def _pair(answer: Mapping[str, Any]) -> ParsedReply:
    winner, reasoning = answer["winner"], _words(answer)
    if winner not in WINNERS:
        raise _Invalid(f"winner is {winner!r:.40}; it is A, B or tie")
    return ParsedReply("ok", reasoning=reasoning, winner=winner)


def _words(answer: Mapping[str, Any]) -> str:
    if not isinstance(answer["reasoning"], str):
        raise _Invalid("reasoning is no text")
    return writable(answer["reasoning"].strip())


def _modes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(mode, str) for mode in value):
        raise _Invalid("failure_modes is no list of names")
    return tuple(dict.fromkeys(writable(mode.strip()) for mode in value if mode.strip()))


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Invalid(f"{name} is {value!r:.40}, no number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):  # 1e999
        raise _OutOfRange(f"{name} is beyond all bounds")
    return number
