"""Lines of a gallery's files, which another machine may have sent or an editor changed: checked before they count."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fewstep.runtime import durable
from fewstep.runtime.errors import FewstepError

Line = dict[str, Any]
# By name: text, whole, number, texts, numbers or object. With a "?" the field may be null or absent.
LineFields = Mapping[str, str]


def whole_lines(path: Path, error: type[FewstepError], remedy: str) -> Iterator[tuple[str, Line]]:
    """The records of a file that is only ever written whole, each with its place (FILE:LINE). None if there is no file.

    Raises:
        FewstepError (of the type `error`): a line that is cut off or no record. Left out, it would change the figures.
    """
    for number, record in durable.numbered_records(path):
        if record is None:
            raise error(f"{path}:{number}: the line is cut off, or no record; {remedy}")
        yield f"{path}:{number}", record


def mistyped(record: Mapping[str, Any], fields: LineFields) -> str | None:
    """The first field that is missing or has a value of another type, in words; None if all is well."""
    for name, kind in fields.items():
        value, optional = record.get(name), kind.endswith("?")
        if value is None and not optional:
            return f"lacks {name}" if name not in record else f"{name} is null"
        if value is not None and not _fits(value, kind.rstrip("?")):
            return f"{name} is {value!r:.40}, no {_WORDS[kind.rstrip('?')]}"
    return None


_WORDS = {
    "text": "text",
    "whole": "whole number",
    "number": "number",
    "texts": "list of texts",
    "numbers": "object of numbers",
    "object": "object",
}


def _fits(value: Any, kind: str) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "whole":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return _is_number(value)
        case "texts":
            return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        case "numbers":
            return isinstance(value, dict) and all(map(_is_number, value.values()))
        case _:
            return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
