"""Whatever a file or a server holds, it is read or a ValueError: never a RecursionError, never a number too long."""

import json
import math

import pytest

from fewstep.runtime.strict_json import DIGITS, load_json


def test_json_is_read_as_json_reads_it() -> None:
    text = '{"a": [1, -2, 3.5, 1e3, null, true, "\\u00e9"]}'
    assert load_json(text) == load_json(text.encode()) == json.loads(text)
    assert isinstance(load_json("7"), int)
    assert load_json("1" * DIGITS) == int("1" * DIGITS)


@pytest.mark.parametrize("digits", [DIGITS + 1, 5_000])
def test_numbers_that_no_float_holds_are_infinite(digits: int) -> None:
    assert load_json("1" * digits) == math.inf
    assert load_json("-" + "1" * digits) == -math.inf


@pytest.mark.parametrize("text", ["", "{", "[" * 3_000, '{"a":' * 3_000, b'"\xff"', "nul"])
def test_anything_else_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_json(text)
