"""Charts of whatever a run leaves."""

import math

import pytest

from fewstep.pages.charts import Series, line_chart, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.99), (-3, 250), (1e-7, 3e-7), (5, 5.0001)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 9
    assert low <= found[0] < found[-1] <= high


def test_charts_bear_whatever_a_run_leaves() -> None:
    assert line_chart([], "x", "t") == ""
    assert line_chart([Series("a", [(0, math.nan)])], "x", "t") == ""
    assert "circle" in line_chart([Series("a", [(3, 2.0)])], "x", "t")
    assert "NaN" not in line_chart([Series("a", [(0, 1.0), (1, math.inf), (2, 1.0)])], "x", "t")
    long = line_chart([Series("a", [(i, i % 7) for i in range(500)])], "x", "t")
    assert 'class="c0 faint"' in long
