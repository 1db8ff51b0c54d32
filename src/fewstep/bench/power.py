"""How many cases are needed to show a difference: the power of the paired t-test, from the noncentral t distribution
(Cohen 1988).

sd is the standard deviation of one case's difference between the two systems (its seeds and judges averaged), within
categories. Cases are spread evenly over the categories. So the average of category means of n cases has the variance
sd^2 / n, estimated on n - strata degrees of freedom.
"""

import numpy as np
import scipy  # its parts are imported when they are first used

from fewstep.bench.statistics import LEVEL

POWER = 0.8
MOST = 10_000_000  # cases; the search ends here


def power_of(n: int, difference: float, sd: float, strata: int = 1) -> float:
    """The probability that the interval of n cases excludes 0 on the right side, if this is the true difference."""
    freedom = n - strata
    if freedom < 1:
        return 0.0
    t = scipy.special.stdtrit(freedom, (1 + LEVEL) / 2)
    if sd == 0:
        return float(difference != 0)
    return 1 - float(scipy.special.nctdtr(freedom, abs(difference) / sd * np.sqrt(n), t))


def cases_needed(difference: float, sd: float, power: float = POWER, strata: int = 1) -> int | None:
    """The least number of cases that resolves this difference with this power; None if it is above `MOST`."""
    if difference == 0:
        return None
    wanted = scipy.special.ndtri((1 + LEVEL) / 2) + scipy.special.ndtri(power)
    if (normal := (wanted * sd / difference) ** 2) > MOST:
        return None
    low, high = strata, strata + 2 + int(normal)
    while power_of(high, difference, sd, strata) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle, difference, sd, strata) >= power else (middle, high)
    return high
