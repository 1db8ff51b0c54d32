"""The closed form is scipy's quantile."""

import pytest
from scipy import special

from fewstep.bench.student_t import normal_tail, t_level, t_quantile


@pytest.mark.parametrize("freedom", [*range(1, 12), 30, 99, 100, 1_799, 5_000])
def test_quantiles_are_scipys(freedom: int) -> None:
    for level in (0.5, 0.95, 0.999):
        found = t_quantile(freedom, level)
        assert found == pytest.approx(special.stdtrit(freedom, (1 + level) / 2), rel=1e-9)
        assert t_level(found, freedom) == pytest.approx(level, abs=1e-12)


@pytest.mark.parametrize("x", [-3.0, 0.0, 0.5, 1.96, 8.0, 20.0])
def test_tails_are_scipys(x: float) -> None:
    assert normal_tail(x) == pytest.approx(special.ndtr(-x), rel=1e-12)
