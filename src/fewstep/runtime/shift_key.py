"""A recipe's shift: a number, or the word `teacher` for the one that the teacher's own pipeline applies."""

import math
from typing import Any, Literal

TEACHER: Literal["teacher"] = "teacher"
Shift = float | Literal["teacher"]
HIGHEST = 1000.0  # ours: at it, half of all times lie above 0.999


def read_shift(given: Any, key: str) -> Any:
    """A key's shift as written in a recipe. key: its dotted name.

    Raises:
        ValueError: neither the word nor a number in (0, 1,000].
    """
    if given == TEACHER:
        return TEACHER
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= HIGHEST:
        raise ValueError(f"{key} should be {TEACHER}, or a number above 0 and at most 1,000; not {given!r:.60}")
    return number
