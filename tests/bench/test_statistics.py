"""Intervals cover what they claim, pairs cancel what they share, distances have their known values."""

import numpy as np
import pytest
from scipy import linalg, stats

from fewstep.bench import statistics

TRIALS, CASES, SEEDS = 150, 60, 4


def clustered(rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Records whose mean is 1: cases differ (sd 1), seeds within a case less (sd 0.3)."""
    cases = rng.normal(1, 1, CASES)
    return (cases[:, None] + rng.normal(0, 0.3, (CASES, SEEDS))).ravel(), np.repeat(np.arange(CASES), SEEDS).tolist()


def test_coverage_needs_the_clusters() -> None:
    """95 % intervals hold the true mean about 95 times of 100; taking seeds of one case as independent, far less."""
    hits = alone = 0
    for trial in range(TRIALS):
        x, cases = clustered(np.random.default_rng(trial))
        by_case, by_record = statistics.mean(x, cases, seed=trial), statistics.mean(x, seed=trial)
        assert by_case.low is not None
        assert by_case.high is not None
        assert by_record.low is not None
        assert by_record.high is not None
        hits += by_case.low <= 1 <= by_case.high
        alone += by_record.low <= 1 <= by_record.high
    assert 0.90 <= hits / TRIALS <= 0.985
    assert alone / TRIALS < 0.8


def test_coverage_of_a_paired_ratio() -> None:
    """Both systems fail on the same hard cases; the true ratio is 0.8."""
    hits, widths, unpaired = 0, [], []
    for trial in range(TRIALS):
        rng = np.random.default_rng(1000 + trial)
        hard = rng.uniform(0.5, 1.5, 80)
        top, bottom = 0.8 * hard + rng.normal(0, 0.05, 80), hard + rng.normal(0, 0.05, 80)
        found = statistics.paired_ratio(top, bottom, seed=trial)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.8 <= found.high
        widths.append(found.high - found.low)
        if trial < 20:
            shuffled = statistics.paired_ratio(rng.permutation(top), bottom, seed=trial)
            unpaired.append((shuffled.high or 0) - (shuffled.low or 0))
    assert 0.90 <= hits / TRIALS <= 0.985
    assert np.mean(unpaired) > 3 * np.mean(widths)


def test_estimates_are_reproducible_and_name_their_size() -> None:
    x, cases = clustered(np.random.default_rng(0))
    found = statistics.mean(x, cases)
    assert found == statistics.mean(x, cases)
    assert (found.n, found.clusters) == (CASES * SEEDS, CASES)
    assert found.value == pytest.approx(x.mean())


def test_what_has_no_interval() -> None:
    assert statistics.mean([]).value is None
    one_case = statistics.mean([0.2, 0.4], ["a", "a"])
    assert (one_case.value, one_case.low) == (pytest.approx(0.3), None)
    nothing = statistics.paired_ratio([1.0, 1.0], [0.0, 0.0])
    assert (nothing.value, nothing.low) == (None, None)


def test_a_difference_of_a_thing_with_itself_is_zero_and_has_no_interval() -> None:
    x, cases = clustered(np.random.default_rng(0))
    found = statistics.paired_difference(x, x, cases)
    assert (found.value, found.low, found.high) == (0, None, None)
    ratio = statistics.paired_ratio(3 * x, x, cases)
    assert (ratio.value, ratio.low) == (pytest.approx(3), None)


@pytest.mark.parametrize("n", [2, 3, 12, 600])
def test_shares_at_the_end_of_their_scale_have_the_interval_of_clopper_and_pearson(n: int) -> None:
    exact = stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    won, lost = statistics.mean([1.0] * n, bounds=statistics.SHARE), statistics.mean([0.0] * n, bounds=statistics.SHARE)
    assert (won.low, won.high) == (pytest.approx(exact.low), 1.0)
    assert (lost.low, lost.high) == (0.0, pytest.approx(1 - exact.low))
    tied = statistics.mean([0.5] * n, bounds=statistics.SHARE)
    assert 0 < tied.low < 0.5 < tied.high < 1  # type: ignore[operator]
    assert statistics.mean([4.2] * n).low is None, "of a scale without ends nothing is known"


def test_rounding_is_no_spread() -> None:
    cases = [str(i // 3) for i in range(30)]
    assert statistics.mean([0.1] * 30, cases).low is None
    assert statistics.paired_difference([0.3] * 30, [0.1] * 30, cases).low is None


def test_frechet_has_its_known_values() -> None:
    """For two Gaussians of one covariance it is the squared distance of the means; scaling by s adds (s - 1)^2 tr S."""
    x = np.random.default_rng(0).normal(0, 1, (500, 6)) @ np.diag([1, 2, 3, 1, 1, 0.5])
    assert statistics.frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert statistics.frechet(x, x + 2) == pytest.approx(6 * 4)
    centred = x - x.mean(0)
    assert statistics.frechet(centred, 3 * centred) == pytest.approx(4 * np.trace(np.cov(x, rowvar=False)))


def test_frechet_equals_the_textbook_formula() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(200, 5)), rng.normal(0.3, 1.4, size=(150, 5)) @ rng.normal(size=(5, 5))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    textbook = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert statistics.frechet(a, b) == pytest.approx(textbook)


def test_frechet_of_fewer_pictures_than_features() -> None:
    """Covariances are singular then; the value stays finite, and falls with n towards 0 for one distribution."""
    rng = np.random.default_rng(2)
    few = statistics.frechet(rng.normal(size=(10, 32)), rng.normal(size=(10, 32)))
    many = statistics.frechet(rng.normal(size=(2000, 32)), rng.normal(size=(2000, 32)))
    assert 0 <= many < 1 < few


def test_spread() -> None:
    assert statistics.spread([[1.0, 2.0]] * 5) == 0
    assert statistics.spread([[0.0], [1.0], [2.0]]) == pytest.approx((1 + 2 + 1) / 3)
