"""The quantile of Student's t that bounds an interval, in closed form: to import scipy.special takes a sixth of the
time of a whole report. `tests/bench/test_student_t.py` holds it against scipy.

For a whole number nu of degrees of freedom and theta = atan(t / sqrt(nu)), P(|t'| <= t) is a finite sum of powers of
cos(theta) (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).
"""

from functools import cache
from math import atan, cos, erfc, pi, sin, sqrt, tan

import numpy as np


@cache
def t_quantile(freedom: int, level: float) -> float:
    """The t with P(|t'| <= t) = level, for 1 or more degrees of freedom."""
    assert freedom >= 1
    assert 0 < level < 1
    low, high = 0.0, pi / 2
    for _ in range(60):  # halves theta's interval to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return sqrt(freedom) * tan((low + high) / 2)


def t_level(t: float, freedom: int) -> float:
    """P(|t'| <= t)."""
    return _within(atan(t / sqrt(freedom)), freedom)


def normal_tail(x: float) -> float:
    """P(z > x) of a standard normal z."""
    return erfc(x / sqrt(2)) / 2


def _within(theta: float, freedom: int) -> float:
    odd = freedom % 2
    if freedom == 1:
        return 2 * theta / pi
    k = np.arange(1, (freedom - odd) // 2)  # the sum's further terms, each the one before times a factor
    factors = 2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k)
    terms = 1 + float(np.cumprod(factors * cos(theta) ** 2).sum())
    return 2 / pi * (theta + sin(theta) * cos(theta) * terms) if odd else sin(theta) * terms
