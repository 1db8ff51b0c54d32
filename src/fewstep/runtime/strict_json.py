"""JSON from files and servers that anyone may have written: whatever it holds, it is read or a ValueError."""

import json
import math
from collections.abc import Callable
from typing import Any

DIGITS = 400  # of a whole number; a float ends at 1.8e308, and Python itself refuses to read over 4,300

Pairs = list[tuple[str, Any]]


class TooDeep(ValueError):
    """JSON that is nested deeper than Python reads."""


def load_json(
    text: str | bytes,
    object_pairs_hook: Callable[[Pairs], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """The value that `text` states. A whole number of more than `DIGITS` digits is infinite, as 1e999 is.

    Args:
        object_pairs_hook, parse_constant: as in `json.loads`.

    Raises:
        TooDeep: nested deeper than Python reads.
        ValueError: no JSON (json.JSONDecodeError), or no UTF-8.
    """
    try:
        return json.loads(
            text, object_pairs_hook=object_pairs_hook, parse_constant=parse_constant, parse_int=_whole_number
        )
    except RecursionError as error:
        raise TooDeep("nested without end") from error


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS else math.copysign(math.inf, -1.0 if digits[0] == "-" else 1.0)
