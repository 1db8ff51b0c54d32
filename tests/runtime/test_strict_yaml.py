"""YAML without its surprises: text stays text, and what is written is read back."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fewstep.runtime import strict_yaml

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
TREES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@given(TREES)
@example({"negative": "a\x85b\u2028c"})
def test_what_is_written_is_read_back(value: Any) -> None:
    assert strict_yaml.load_yaml(strict_yaml.dump_yaml(value), "x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("no", "no"), ("on", "on"), ("1e-3", 1e-3), ("1.e3", 1e3), (".5", 0.5), ("12:30", "12:30"), ("'7'", "7")),
        *(
            ("true", True),
            ("null", None),
            ("7", 7),
            ("-7", -7),
            ("010", "010"),
            ("1_000", "1_000"),
            ("2024-01-01",) * 2,
        ),
    ],
)
def test_yaml_without_its_surprises(text: str, value: Any) -> None:
    found = strict_yaml.load_yaml(text, "x")
    assert (found, type(found)) == (value, type(value))
