"""The base of every section of a recipe: frozen, strict, each field described."""

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

LARGEST = 2**63


class Section(BaseModel):
    """One section of a recipe. Unknown keys are refused here; `runtime/key_help.py` makes a message with the nearest
    known key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain_numbers(cls, given: Any, info: ValidationInfo) -> Any:
        """pydantic reads true as 1 where a number stands, so `iterations: true` would be a run of one iteration. And no
        number of a recipe needs more than 64 bits, whether it has a limit of its own or none."""
        assert info.field_name is not None
        kinds = set(_leaves(cls.model_fields[info.field_name].annotation))
        if not kinds & {int, float} or kinds & {bool, Any}:
            return given
        for number in _whole_numbers(given, kinds):
            if isinstance(number, bool):
                raise ValueError("holds true or false where a number stands; write the number")
            if abs(number) >= LARGEST:
                raise ValueError("holds a number of more than 64 bits, which is none of a recipe")
        return given


def _leaves(annotation: Any) -> Iterator[Any]:
    """The plain types that an annotation is made of."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        inner = inner[:1]
    if typing.get_origin(annotation) is typing.Literal or not inner:
        yield annotation
        return
    for each in inner:
        yield from _leaves(each)


def _whole_numbers(value: Any, kinds: set[Any]) -> Iterator[int]:
    """Whole numbers inside, and true and false. Sections inside look at their own keys."""
    if isinstance(value, int):
        yield value
    sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if isinstance(value, dict) and any(name in value for section in sections for name in section.model_fields):
        return
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _whole_numbers(each, kinds)
